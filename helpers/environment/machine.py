"""Describe a machine for the check in `helpers.environment`. Standard library only: nothing is installed yet.

Every part is read so that a missing tool, a hung driver or a broken install gives an answer, not a traceback.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from helpers.settings import record_file

DATA_DISK = "/root/autodl-tmp"
MIRRORS = ("tsinghua", "aliyun", "ustc", "tencent", "huawei", "sjtu", "nju")


class Gpu(NamedTuple):
    """One GPU: its name, its memory in bytes, its compute capability such as 8.6."""

    name: str
    memory: int
    capability: float


@dataclass(frozen=True)
class Machine:
    """What `check` needs to know about a machine. Sizes in bytes; "" and 0 stand for "not found"."""

    python: str = "3.12.3"
    platform: str = "linux_x86_64"
    packages: dict[str, str] = field(default_factory=dict)  # name -> installed version
    torch_cuda: str | None = ""  # the CUDA that torch was built with; "": a CPU build; None: import fails
    cxx11_abi: bool = True  # whether torch was built with the C++11 ABI
    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str = "none"  # why there are no GPUs
    driver: str = ""
    ram: int = 0  # what this container may use, where it is limited
    free_disk: int = 0  # free where the model goes
    autodl: bool = False
    data_disk: bool = False  # the model goes to AutoDL's data disk
    downloaded: bool = False  # notebook 03 has put the model there already
    mirror: str = ""  # the package index that pip is set to
    proxy: bool = False
    jupyterlab: str = ""  # version in the environment of the JupyterLab server
    lab_widgets: str = ""  # version of its widget manager, from the package jupyterlab_widgets


def package_version(name: str) -> str:
    """Installed version of a package, read without importing it; "" when it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def requirements() -> dict[str, str]:
    """What requirements.txt asks for: name -> specifier such as ">=2.9,<2.14"."""
    text = (Path(__file__).parents[2] / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^([\w-]+)([=<>!][^\s#]*)", text))


def read_machine() -> Machine:
    """Describe this machine. Needs no GPU, no network and no installed package."""
    torch_cuda, abi = "", True
    if package_version("torch"):
        try:
            import torch

            torch_cuda, abi = torch.version.cuda or "", torch._C._GLIBCXX_USE_CXX11_ABI
        except Exception:  # a broken install fails in many ways
            torch_cuda = None
    data_disk = os.path.isdir(DATA_DISK)  # unlike Path.is_dir, no error where a user may not look
    target = os.environ.get("MODELSCOPE_CACHE") or (DATA_DISK if data_disk else "~")
    target = os.path.abspath(os.path.expanduser(target))
    folders = [target, *map(str, Path(target).parents)]
    homes = (sys.prefix, Path.home() / ".config/pip", Path.home() / ".pip", "/etc")
    settings = "\n".join(_read(home, "pip.conf") for home in homes)
    index = os.environ.get("PIP_INDEX_URL") or "".join(re.findall(r"(?m)^\s*index-url.*", settings))
    mirror = [f"{name} mirror" for name in MIRRORS if name in index] or ["another index" if index else ""]
    return Machine(
        python=platform.python_version(),
        platform=f"{sys.platform}_{platform.machine().lower()}",
        packages={name: package_version(name) for name in (*requirements(), "flash-attn")},
        torch_cuda=torch_cuda,
        cxx11_abi=abi,
        ram=read_ram(),
        free_disk=shutil.disk_usage(next(filter(os.path.exists, folders))).free,
        autodl=data_disk or os.path.exists("/etc/network_turbo"),
        data_disk=data_disk and DATA_DISK in folders,
        downloaded=os.path.exists(record_file()),
        mirror=mirror[0],
        proxy=any(os.environ.get(name) for name in ("http_proxy", "https_proxy")),
        **read_gpus(),
        **_read_server(),
    )


def _read(*parts: Path | str) -> str:
    try:
        return Path(*parts).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def read_gpus(seconds: float = 10) -> dict:
    """What nvidia-smi says; a broken driver can make it hang, so it gets `seconds` and is then given up."""
    query = [
        "nvidia-smi",
        "--query-gpu=driver_version,memory.total,compute_cap,name",
        "--format=csv,noheader,nounits",
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:  # a pipe would wait for a hung process
        try:
            process = subprocess.Popen(query, stdin=subprocess.DEVNULL, stdout=answer, stderr=answer)
            process.wait(seconds)
        except OSError:
            return {"gpu_problem": "none (no nvidia-smi)"}
        except subprocess.TimeoutExpired:
            process.kill()
            return {"gpu_problem": f"nvidia-smi gave no answer in {seconds:g} s"}
        answer.seek(0)
        rows = re.findall(r"(?m)^([\d.]+), (\d+), ([\d.]+), (.+)$", answer.read())
    gpus = tuple(Gpu(name, int(mib) * 2**20, float(capability)) for _, mib, capability, name in rows)
    return {"gpus": gpus, "driver": rows[0][0]} if rows else {"gpu_problem": "nvidia-smi lists none"}


def read_ram(root: str = "/") -> int:
    """Bytes of RAM, or less where a container (cgroup v2 or v1) is limited to less; 0: unknown."""
    limits = [1024 * int(n) for n in re.findall(r"MemTotal:\s+(\d+)", _read(root, "proc/meminfo"))]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limits += [int(n) for n in re.findall(r"^\d+", _read(root, "sys/fs/cgroup", name))]
    return min(limits, default=0)


def _read_server() -> dict[str, str]:
    """JupyterLab and its widgets where the server runs: its environment need not be the kernel's."""
    server = _read("/proc", os.environ.get("JPY_PARENT_PID", "-"), "cmdline").split("\0")[0]
    server = server if os.path.isabs(server) else shutil.which("jupyter-lab") or sys.executable
    share = Path(server).parent.parent / "share/jupyter"
    lab = _read(share, "lab/static/package.json")
    widgets = _read(share, "labextensions/@jupyter-widgets/jupyterlab-manager/package.json")
    versions = [json.loads(text).get("version", "") if text else "" for text in (lab, widgets)]
    return {"jupyterlab": versions[0], "lab_widgets": versions[1]}
