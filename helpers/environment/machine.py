"""Describe a machine for the check. Standard library only: nothing is installed yet.

Every part is read so that a missing tool, a hung driver or a broken install gives an answer, not a traceback.
"""

import os
import platform
import sys
from dataclasses import dataclass, field

from helpers import settings
from helpers.environment.nvidia_smi import Gpu, read_gpus
from helpers.environment.probes import free_disk, read_mirror, read_ram, read_server
from helpers.environment.versions import package_version, requirements


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


def read_machine() -> Machine:
    """Describe this machine. Needs no GPU, no network and no installed package."""
    target = settings.model_cache()
    torch_cuda, cxx11_abi = _read_torch()
    jupyterlab, lab_widgets = read_server()
    gpus = read_gpus()
    return Machine(
        python=platform.python_version(),
        platform=f"{sys.platform}_{platform.machine().lower()}",
        packages={name: package_version(name) for name in (*requirements(), "flash-attn")},
        torch_cuda=torch_cuda,
        cxx11_abi=cxx11_abi,
        gpus=gpus.gpus,
        gpu_problem=gpus.problem,
        driver=gpus.driver,
        ram=read_ram(),
        free_disk=free_disk(target),
        autodl=settings.has_data_disk() or os.path.exists("/etc/network_turbo"),
        data_disk=settings.has_data_disk() and target.is_relative_to(settings.DATA_DISK),
        downloaded=settings.record_file().exists(),
        mirror=read_mirror(),
        proxy=any(os.environ.get(name) for name in ("http_proxy", "https_proxy")),
        jupyterlab=jupyterlab,
        lab_widgets=lab_widgets,
    )


def _read_torch() -> tuple[str | None, bool]:
    """The CUDA that torch was built with (see `Machine.torch_cuda`), and whether with the C++11 ABI."""
    if not package_version("torch"):
        return "", True
    try:
        import torch  # imported late: it takes seconds, and may be missing or broken
    except Exception:  # a broken install fails in many ways
        return None, True
    return torch.version.cuda or "", torch.compiled_with_cxx11_abi()
