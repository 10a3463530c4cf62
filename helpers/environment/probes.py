"""Read what a machine has: RAM, disk, memory of the usable GPUs, pip's index, JupyterLab's server.

Every probe gives an answer where a tool is missing, a driver hangs or an install is broken: no traceback.
`root` is the root of the file system, which a test replaces. Sizes are bytes.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

from helpers import settings
from helpers.environment.capacity import CUDA_CONTEXT, Card, Memory
from helpers.environment.nvidia_smi import Gpu, read_gpus

BF16_CAPABILITY = 8.0  # compute capability from which on a GPU computes in bf16
#: Names by which an address of a package index is recognised as a mirror in China.
MIRRORS = ("tsinghua", "aliyun", "ustc", "tencent", "huawei", "sjtu", "nju")

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
    return min(_meminfo("MemTotal", root) + _container_figures(root, LIMIT_FILES), default=0)


def free_ram(root: str = "/") -> int:
    """Bytes of RAM that a program can still have, in a container what its limit leaves; 0: unknown."""
    amounts = _meminfo("MemAvailable", root)
    for limit_file, used_file, stat_file in zip(LIMIT_FILES, USED_FILES, STAT_FILES, strict=True):
        limits = _container_figures(root, (limit_file,))
        used = sum(_container_figures(root, (used_file,))) - _reclaimable(root, stat_file)
        if limits:
            amounts.append(max(0, limits[0] - max(0, used)))
    return min(amounts, default=0)


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


def read_memory() -> Memory:
    """Memory of this machine for `capacity.decide`: usable GPUs, free RAM, free disk where models go."""
    cards = tuple(card_of(gpu) for gpu in read_gpus().gpus)
    return Memory(cards=cards, ram=free_ram(), disk=free_disk(settings.model_cache()))


def card_of(gpu: Gpu) -> Card:
    """A GPU as `capacity.decide` needs it. What is free is not known of an imagined GPU: then all of it."""
    free = gpu.memory if gpu.free is None else gpu.free
    return Card(gpu.name, gpu.memory, max(0, free - CUDA_CONTEXT), gpu.capability >= BF16_CAPABILITY)


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
    return "another index" if index else ""


def read_server() -> tuple[str, str]:
    """Versions of JupyterLab and of its widget manager where the server runs; "" for what is not found.

    The server's environment need not be the kernel's: a kernel knows its server by JPY_PARENT_PID.
    """
    command = read_text("/proc", os.environ.get("JPY_PARENT_PID", "-"), "cmdline")
    server = command.split("\0")[0]
    if not os.path.isabs(server):
        server = shutil.which("jupyter-lab") or sys.executable
    share = Path(server).parent.parent / "share/jupyter"
    lab = _package_json_version(share / "lab/static/package.json")
    manager = share / "labextensions/@jupyter-widgets/jupyterlab-manager/package.json"
    return lab, _package_json_version(manager)


def _package_json_version(path: Path) -> str:
    text = read_text(path)
    if not text:
        return ""
    return json.loads(text).get("version", "")
