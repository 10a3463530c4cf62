"""Read what a machine has: RAM, disk, memory of the usable GPUs, pip's index, JupyterLab's server.

Every probe gives an answer where a tool is missing, a driver hangs or an install is broken: no traceback.
`root` is the root of the file system, which a test replaces. Sizes are bytes.
"""

import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from helpers import GIB, settings
from helpers.environment.capacity import CUDA_CONTEXT, Card, Memory
from helpers.environment.holders import gpu_holders
from helpers.environment.nvidia_smi import Gpu, read_gpus
from helpers.environment.visible_devices import short_names
from helpers.language import to_say

BF16_CAPABILITY = 8.0  # compute capability from which on a GPU computes in bf16
HELD = GIB  # bytes of a GPU in use, from which on it is worth asking who holds them
FILE_STORAGE = Path("/root/autodl-fs")  # AutoDL's: shared by instances, slow
DISKS = (to_say("data disk"), to_say("system disk"), to_say("file storage"), to_say("other disk"))
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
#: Names by which an address of a package index is recognised as a mirror in China.
MIRRORS = ("tsinghua", "aliyun", "ustc", "tencent", "huawei", "sjtu", "nju")
OTHER_INDEX = to_say("another index")

# Files of a container's cgroup, version 2 and version 1.
LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")
USED_FILES = ("memory.current", "memory/memory.usage_in_bytes")
STAT_FILES = ("memory.stat", "memory/memory.stat")


def read_text(*parts: Path | str) -> str:
    """Content of a small file; "" if it cannot be read."""
    try:
        return Path(*parts).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def read_ram(root: str = "/") -> int:
    """Bytes of RAM, or less where a container (cgroup v2 or v1) is limited to less; 0: unknown."""
    amounts = _meminfo("MemTotal", root) + _container_figures(root, LIMIT_FILES)
    return min(amounts, default=_psutil_memory("total", root))


def free_ram(root: str = "/") -> int:
    """Bytes of RAM that a program can still have, in a container what its limit leaves; 0: unknown."""
    amounts = _meminfo("MemAvailable", root)
    for limit_file, used_file, stat_file in zip(LIMIT_FILES, USED_FILES, STAT_FILES, strict=True):
        limits = _container_figures(root, (limit_file,))
        used = sum(_container_figures(root, (used_file,))) - _reclaimable(root, stat_file)
        if limits:
            amounts.append(max(0, limits[0] - max(0, used)))
    return min(amounts, default=_psutil_memory("available", root))


def _psutil_memory(name: str, root: str) -> int:
    """A figure of the RAM on systems without /proc, from a package that comes with accelerate; 0: unknown."""
    if root != "/":
        return 0
    try:
        psutil = importlib.import_module("psutil")  # not by `import`: it is there only after the installation
    except ImportError:
        return 0
    return int(getattr(psutil.virtual_memory(), name))


def _meminfo(name: str, root: str) -> list[int]:
    found = re.findall(rf"{name}:\s+(\d+)", read_text(root, "proc/meminfo"))
    return [1024 * int(kib) for kib in found]


def _container_figures(root: str, names: tuple[str, ...]) -> list[int]:
    """Numbers in these files of the container's cgroup; "max" is none."""
    texts = [read_text(root, "sys/fs/cgroup", name) for name in names]
    found = [re.match(r"\d+", text) for text in texts]
    return [int(match[0]) for match in found if match]


def _reclaimable(root: str, stat_file: str) -> int:
    """Bytes of files that the system keeps in a container's memory and gives back when memory is needed."""
    text = read_text(root, "sys/fs/cgroup", stat_file)
    return sum(int(count) for count in re.findall(r"(?m)^(?:active|inactive)_file (\d+)", text))


def free_disk(folder: Path | str) -> int:
    """Free bytes where `folder` is, or would be."""
    for place in (Path(folder), *Path(folder).parents):
        if os.path.exists(place):
            return shutil.disk_usage(place).free
    return 0


def is_autodl() -> bool:
    """Whether this is an instance of AutoDL."""
    return settings.has_data_disk() or os.path.exists("/etc/network_turbo")


def kind_of_disk(folder: Path) -> str:
    """Which of `DISKS` a folder lies on, or would lie on."""
    data_disk = settings.DATA_DISK.resolve()
    if settings.has_data_disk() and folder.is_relative_to(data_disk):
        return "data disk"
    if folder.is_relative_to(FILE_STORAGE):
        return "file storage"
    for place in (folder, *folder.parents):
        if os.path.exists(place):
            if os.stat(place).st_dev == os.stat("/").st_dev:
                return "system disk"
            return "other disk"
    return "system disk"


def read_memory() -> Memory:
    """Memory of this machine for `capacity.decide`: usable GPUs, free RAM, free disk where models go."""
    gpus = read_gpus().gpus
    holders = ""
    if are_held(gpus):
        holders = gpu_holders()
    disk = free_disk(settings.model_cache())
    return Memory(cards=cards_of(gpus), ram=free_ram(), disk=disk, holders=holders)


def are_held(gpus: tuple[Gpu, ...]) -> bool:
    """Whether so much GPU memory is in use that it is worth asking by whom."""
    return any(gpu.free is not None and gpu.memory - gpu.free > HELD for gpu in gpus)


def cards_of(gpus: tuple[Gpu, ...]) -> tuple[Card, ...]:
    """GPUs as `capacity.decide` needs them. Of an imagined GPU (`free` is None) all memory is free."""
    names = short_names([gpu.uuid for gpu in gpus])
    cards = []
    for gpu, visible_as in zip(gpus, names, strict=True):
        free = gpu.free
        if free is None:
            free = gpu.memory
        bf16 = gpu.capability >= BF16_CAPABILITY or gpu.capability == 0  # 0: unknown
        cards.append(Card(gpu.name, gpu.memory, max(0, free - CUDA_CONTEXT), bf16, visible_as))
    return tuple(cards)


def read_mirror(root: str = "/") -> str:
    """The package index that pip is set to: "tsinghua mirror", "another index", or "" for the default one."""
    index = os.environ.get("PIP_INDEX_URL")
    if not index:
        homes = (sys.prefix, Path.home() / ".config/pip", Path.home() / ".pip", Path(root, "etc"))
        texts = [read_text(home, "pip.conf") for home in homes]
        index = "".join(re.findall(r"(?m)^\s*index-url.*", "\n".join(texts)))
    for name in MIRRORS:
        if name in index:
            return f"{name} mirror"
    if index:
        return OTHER_INDEX
    return ""


class Server(NamedTuple):
    """JupyterLab and its widget manager where the server runs; "" for what is not found."""

    lab: str
    widgets: str
    seen: bool  # False: no server to be seen from here; then these are the versions of this environment


def read_server(root: str = "/") -> Server:
    """Versions of the JupyterLab that the learner works in: its environment need not be the kernel's.

    A kernel knows its server by JPY_PARENT_PID; a terminal that JupyterLab has started has it as an ancestor.
    """
    here = shutil.which("jupyter-lab") or sys.executable
    command = _server_command(root)
    if not command:
        return Server(*_server_versions(Path(here)), seen=False)
    program = command[0]
    if not os.path.isabs(program):
        program = shutil.which(program) or here
    return Server(*_server_versions(Path(program)), seen=True)


def _server_command(root: str) -> list[str]:
    """The words of the command that started the server; [] if it cannot be seen from here."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    if parent:
        return read_text(root, "proc", parent, "cmdline").split("\0")
    for pid in _ancestors(os.getppid(), root):
        words = read_text(root, "proc", pid, "cmdline").split("\0")
        if any("jupyter" in word for word in words[:3]):  # python, its option -m, or the script
            return words
    return []


def _ancestors(pid: int, root: str) -> list[str]:
    """Numbers of a process, its parent, its parent's parent and so on, at most ten."""
    found = []
    while pid > 1 and len(found) < 10:
        found.append(str(pid))
        parent = re.search(r"(?m)^PPid:\s+(\d+)", read_text(root, "proc", str(pid), "status"))
        if not parent:
            break
        pid = int(parent[1])
    return found


def _server_versions(program: Path) -> tuple[str, str]:
    """Versions of JupyterLab and its widget manager beside a program such as .../bin/python."""
    share = program.parent.parent / "share/jupyter"
    manager = share / "labextensions/@jupyter-widgets/jupyterlab-manager/package.json"
    return _package_json_version(share / "lab/static/package.json"), _package_json_version(manager)


def _package_json_version(path: Path) -> str:
    try:
        return str(json.loads(read_text(path))["version"])
    except (ValueError, LookupError, TypeError):
        return ""


def read_proxies() -> tuple[str, ...]:
    """The variables that are set and name a proxy; programs look at both cases."""
    return tuple(name for name in PROXIES if os.environ.get(name, "").strip())
