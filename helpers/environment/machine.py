"""Describe a machine for the check in `helpers.environment`. Standard library only: nothing is installed yet.

Every part is read so that a missing tool, a hung driver or a broken install gives an answer, not a traceback.
"""

import os
import platform
import re
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from helpers import settings
from helpers.environment.nvidia_smi import Gpu, read_gpus
from helpers.environment.probes import free_disk, read_mirror, read_ram, read_server


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
    target = settings.model_cache()
    data_disk = settings.has_data_disk()
    gpus = read_gpus()
    lab, lab_widgets = read_server()
    return Machine(
        python=platform.python_version(),
        platform=f"{sys.platform}_{platform.machine().lower()}",
        packages={name: package_version(name) for name in (*requirements(), "flash-attn")},
        torch_cuda=torch_cuda,
        cxx11_abi=abi,
        gpus=gpus.gpus,
        gpu_problem=gpus.problem,
        driver=gpus.driver,
        ram=read_ram(),
        free_disk=free_disk(target),
        autodl=data_disk or os.path.exists("/etc/network_turbo"),
        data_disk=data_disk and settings.DATA_DISK in (target, *target.parents),
        downloaded=os.path.exists(settings.record_file()),
        mirror=read_mirror(),
        proxy=any(os.environ.get(name) for name in ("http_proxy", "https_proxy")),
        jupyterlab=lab,
        lab_widgets=lab_widgets,
    )
