"""Describe a machine for the check. Standard library only: nothing is installed yet.

Every part is read so that a missing tool, a hung driver or a broken install gives an answer, not a traceback.
"""

import importlib
import platform
import sys
from dataclasses import dataclass, field

from helpers import settings
from helpers.environment import probes
from helpers.environment.holders import gpu_holders
from helpers.environment.model_folder import NO_FOLDER, FolderState, recorded_download
from helpers.environment.nvidia_smi import Gpu, read_gpus
from helpers.environment.versions import package_version, requirements


@dataclass(frozen=True)
class Machine:
    """What `check` needs to know about a machine. Sizes in bytes; "" and 0 stand for "not found"."""

    python: str = "3.12.3"
    platform: str = "linux_x86_64"
    packages: dict[str, str] = field(default_factory=dict)  # name -> installed version
    torch_cuda: str | None = ""  # the CUDA that torch was built with; "": a CPU build; None: import fails
    cxx11_abi: bool = True  # whether torch was built with the C++11 ABI
    flash_attn_works: bool = True  # whether flash-attn, where it is installed, can be imported
    gpus: tuple[Gpu, ...] = ()  # those that a program can use
    gpu_problem: str = ""  # what is wrong with the GPUs, or why there are none
    gpu_remedy: str = ""  # the next step; "" where nothing is broken
    hidden_gpus: int = 0  # kept from programs by CUDA_VISIBLE_DEVICES
    gpu_holders: str = ""  # who holds GPU memory; "" if nobody does
    driver: str = ""
    ram: int = 0  # what this container may use, where it is limited
    free_ram: int | None = None  # what of it is free; None: all
    free_disk: int = 0  # free where the model goes
    disk: str = "data disk"  # which disk that is: one of `probes.DISKS`
    autodl: bool = False
    download: FolderState = NO_FOLDER  # what notebook 03 has put there
    mirror: str = ""  # the package index that pip is set to, see `probes.read_mirror`
    proxies: tuple[str, ...] = ()  # the variables that name a proxy
    jupyterlab: str = ""  # version in the environment of the JupyterLab server
    lab_widgets: str = ""  # version of its widget manager, from the package jupyterlab_widgets
    server_seen: bool = True  # False in a terminal that no JupyterLab has started


def read_machine() -> Machine:
    """Describe this machine. Needs no GPU, no network and no installed package."""
    torch_cuda, cxx11_abi = _read_torch()
    target = settings.model_cache()
    report = read_gpus()
    holders = ""
    if probes.are_held(report.gpus):
        holders = gpu_holders()
    server = probes.read_server()
    return Machine(
        python=platform.python_version(),
        platform=f"{sys.platform}_{platform.machine().lower()}",
        packages={name: package_version(name) for name in (*requirements(), "flash-attn")},
        torch_cuda=torch_cuda,
        cxx11_abi=cxx11_abi,
        flash_attn_works=not package_version("flash-attn") or _can_import("flash_attn"),
        gpus=report.gpus,
        gpu_problem=report.problem,
        gpu_remedy=report.remedy,
        hidden_gpus=len(report.hidden),
        gpu_holders=holders,
        driver=report.driver,
        ram=probes.read_ram(),
        free_ram=probes.free_ram() or None,
        free_disk=probes.free_disk(target),
        disk=probes.kind_of_disk(target),
        autodl=probes.is_autodl(),
        download=recorded_download(),
        mirror=probes.read_mirror(),
        proxies=probes.read_proxies(),
        jupyterlab=server.lab,
        lab_widgets=server.widgets,
        server_seen=server.seen,
    )


def _read_torch() -> tuple[str | None, bool]:
    """The CUDA that torch was built with (see `Machine.torch_cuda`), and whether with the C++11 ABI."""
    if not package_version("torch"):
        return "", True
    if not _can_import("torch"):
        return None, True
    import torch  # imported late: it takes seconds, and may be missing or broken

    return torch.version.cuda or "", torch.compiled_with_cxx11_abi()


def _can_import(module: str) -> bool:
    """Whether an installed module can be imported: one built for another torch is there, but fails."""
    try:
        importlib.import_module(module)
    except Exception:  # a broken install fails in many ways
        return False
    return True
