"""Described machines: what `check` and the wheels are tried on."""

from dataclasses import replace

from rented_machine import RENTED, RTX_3090

from helpers import GB, GIB
from helpers.environment import Gpu, Machine, check, lowest_versions, requirements
from helpers.environment.model_folder import FolderState

PACKAGES = lowest_versions()

AUTODL = replace(RENTED, packages=PACKAGES | {"torch": "2.9.1"})
LAPTOP = Machine(
    packages=PACKAGES, ram=16 * GIB, free_disk=200 * GB, jupyterlab="4.6.6", lab_widgets="5.0.16"
)


def gpus(name, gib, capability, count=1, **more):
    return replace(AUTODL, gpus=(Gpu(name, int(gib * GIB), capability),) * count, **more)


def without(name, base=AUTODL):
    return {package: version for package, version in base.packages.items() if package != name}


# name -> (machine, model, every line that is not OK)
MACHINES = {
    "AutoDL, 2 x RTX 3090": (AUTODL, "real", {}),
    "the same, old driver, torch for CUDA 12": (replace(AUTODL, driver="535.104.05"), "real", {}),
    "the same, old driver, torch for CUDA 13": (
        replace(AUTODL, driver="570.124.06", torch_cuda="13.0"),
        "real",
        {"driver": "fail"},
    ),
    "a driver too old even for CUDA 12": (replace(AUTODL, driver="470.82.01"), "real", {"driver": "fail"}),
    "the image PyTorch 2.1, Python 3.10, CUDA 12.1": (
        replace(
            AUTODL,
            python="3.10.8",
            packages={"torch": "2.1.0+cu121", "ipykernel": "6.25.0", "ipywidgets": "8.1.1"},
            torch_cuda="12.1",
            cxx11_abi=False,
            jupyterlab="3.4.8",
            lab_widgets="",
        ),
        "real",
        {
            "Python": "fail",
            "torch": "fail",
            **dict.fromkeys(["transformers", "accelerate", "modelscope", "modelscope-hub"], "fail"),
            "ipywidgets": "fail",
            **dict.fromkeys(["matplotlib", "pandas"], "fail"),
            **dict.fromkeys(["ipykernel", "pytest", "nbval", "openai", "fastapi", "uvicorn"], "warning"),
            "JupyterLab": "warning",
        },
    ),
    "one card of 24 GB": (replace(AUTODL, gpus=(RTX_3090,)), "real", {"GPU": "warning"}),
    "one card of 24 GB, no room for the rest": (
        replace(AUTODL, gpus=(RTX_3090,), ram=8 * GIB, free_disk=31 * GB),
        "real",
        {"GPU": "fail"},
    ),
    "one card of 24 GB, embedded model": (replace(AUTODL, gpus=(RTX_3090,)), "embedded", {}),
    "a laptop, embedded model": (LAPTOP, "embedded", {}),
    "a laptop, real model": (LAPTOP, "real", {"GPU": "warning"}),
    "a laptop with a full disk, real model": (
        replace(LAPTOP, free_disk=31 * GB),
        "real",
        {"GPU": "fail"},
    ),
    "64 GiB of RAM and no GPU, real model": (replace(LAPTOP, ram=64 * GIB), "real", {"GPU": "warning"}),
    "2 x V100 16 GB": (
        gpus("Tesla V100-SXM2-16GB", 16, 7.0, 2, torch_cuda="12.6"),
        "real",
        {"GPU": "warning", "bf16": "warning"},
    ),
    "2 x V100 32 GB": (
        gpus("Tesla V100-SXM2-32GB", 32, 7.0, 2, torch_cuda="12.6"),
        "real",
        {"bf16": "warning"},
    ),
    "2 x V100 16 GB, embedded model": (
        gpus("Tesla V100-SXM2-16GB", 16, 7.0, 2),
        "embedded",
        {"bf16": "warning"},
    ),
    "one V100 16 GB": (
        gpus("Tesla V100-SXM2-16GB", 16, 7.0),
        "real",
        {"GPU": "warning", "bf16": "warning"},
    ),
    "a full data disk": (replace(AUTODL, free_disk=20 * GB), "real", {"model disk": "fail"}),
    "a full disk with the model on it": (
        replace(AUTODL, free_disk=1 * GB, download=FolderState("complete")),
        "real",
        {},
    ),
    "system disk only, 20 GB free": (
        replace(AUTODL, disk="system disk", free_disk=20 * GB),
        "real",
        {"model disk": "fail"},
    ),
    "system disk, enlarged": (
        replace(AUTODL, disk="system disk", free_disk=60 * GB),
        "real",
        {"model disk": "warning"},
    ),
    "GPUs with a CPU build of torch": (replace(AUTODL, torch_cuda=""), "real", {"torch": "fail"}),
    "GPUs with a torch that cannot be imported": (
        replace(AUTODL, torch_cuda=None),
        "real",
        {"torch": "fail"},
    ),
    "torch too new": (
        replace(AUTODL, packages=PACKAGES | {"torch": "2.14.0"}),
        "real",
        {"torch": "fail"},
    ),
    "A100 80 GB": (gpus("NVIDIA A100-SXM4-80GB", 80, 8.0), "real", {}),
    "H20 96 GB": (gpus("NVIDIA H20", 95.6, 9.0), "real", {}),
    "2 x RTX 4090": (gpus("NVIDIA GeForce RTX 4090", 23.99, 8.9, 2), "real", {}),
    "RTX 5090 32 GB": (gpus("NVIDIA GeForce RTX 5090", 31.84, 12.0), "real", {}),
    "RTX 5090 with torch for CUDA 12.6": (
        gpus("NVIDIA GeForce RTX 5090", 31.84, 12.0, torch_cuda="12.6"),
        "real",
        {"torch": "fail"},
    ),
    "MacBook": (replace(LAPTOP, platform="darwin_arm64", ram=0), "embedded", {}),
    "Windows laptop": (replace(LAPTOP, platform="win32_amd64", ram=0), "embedded", {}),
    "GH200, aarch64": (gpus("NVIDIA GH200 480GB", 95.6, 9.0, platform="linux_aarch64"), "real", {}),
    "acceleration is on": (replace(AUTODL, proxies=("http_proxy",)), "real", {"proxy": "warning"}),
    "a proxy elsewhere": (replace(LAPTOP, proxies=("HTTPS_PROXY",)), "embedded", {}),
    "no mirror": (replace(AUTODL, mirror=""), "real", {"pip index": "warning"}),
    "no widgets in the server": (replace(AUTODL, lab_widgets=""), "real", {"JupyterLab": "warning"}),
    "JupyterLab 3": (replace(AUTODL, jupyterlab="3.6.8"), "real", {"JupyterLab": "warning"}),
    "no JupyterLab": (replace(AUTODL, jupyterlab="", lab_widgets=""), "real", {"JupyterLab": "warning"}),
    "ipykernel 7.0": (
        replace(AUTODL, packages=PACKAGES | {"torch": "2.9.1", "ipykernel": "7.0.1"}),
        "real",
        {"ipykernel": "warning"},
    ),
    "no ipywidgets in the kernel": (
        replace(AUTODL, packages=without("ipywidgets")),
        "real",
        {"ipywidgets": "fail"},
    ),
    "little RAM": (replace(AUTODL, ram=4 * GIB), "real", {"RAM": "warning"}),
    "nothing installed, no GPU": (
        Machine(free_disk=50 * GB),
        "embedded",
        {name: "fail" for name in requirements() if name != "jupyterlab"}
        | dict.fromkeys(["pytest", "nbval", "openai", "fastapi", "uvicorn", "JupyterLab"], "warning"),
    ),
    "MacBook, real model: its RAM could not be read": (
        replace(LAPTOP, platform="darwin_arm64", ram=0),
        "real",
        {"GPU": "warning"},
    ),
    "a slice of a GPU in MIG mode": (
        gpus("NVIDIA A100, slice of 40 GB", 38, 8.0, gpu_problem="MIG mode", gpu_remedy="switch it off"),
        "real",
        {"nvidia-smi": "warning"},
    ),
    "the driver of the GPUs does not answer": (
        replace(AUTODL, gpus=(), gpu_problem="nvidia-smi gave no answer", gpu_remedy="restart", ram=8 * GIB),
        "real",
        {"nvidia-smi": "warning", "GPU": "fail"},
    ),
    "a GPU that shares the RAM": (
        gpus("NVIDIA GB10", 0, 12.1, gpu_problem="memory: [N/A]", gpu_remedy="ask torch"),
        "real",
        {"nvidia-smi": "warning", "GPU": "warning"},
    ),
    "a capability that is not shown": (gpus("a card", 48, 0.0), "real", {"bf16": "warning"}),
    "an old display card beside two RTX 3090": (
        replace(AUTODL, gpus=(RTX_3090, RTX_3090, Gpu("NVIDIA GeForce GT 1030", 2 * GIB, 6.1))),
        "real",
        {"GPU": "warning", "bf16": "warning"},
    ),
    "another notebook's kernel holds the GPUs": (
        replace(
            AUTODL,
            gpus=(replace(RTX_3090, free=7 * GIB),) * 2,
            gpu_holders="GPU memory is held by process 4711 (the kernel of 02_vram.ipynb, 17408 MiB).",
        ),
        "real",
        {"GPU": "fail"},
    ),
    "GPUs hidden by CUDA_VISIBLE_DEVICES": (
        replace(LAPTOP, hidden_gpus=2, gpu_problem="none: CUDA_VISIBLE_DEVICES hides 2", free_disk=31 * GB),
        "real",
        {"GPU": "fail"},
    ),
    "no-GPU start on AutoDL, real model": (
        replace(AUTODL, gpus=(), driver="", gpu_problem="nvidia-smi lists none", ram=2 * GIB),
        "real",
        {"GPU": "warning"},
    ),
    "no-GPU start on AutoDL": (
        replace(AUTODL, gpus=(), driver="", gpu_problem="nvidia-smi lists none", ram=2 * GIB),
        "embedded",
        {},
    ),
}


def check_lines(described, model="real"):
    return {line.name: line for line in check(described, model)}
