"""Which build of torch and of flash-attn fits a machine, as commands and addresses to copy.

No network: the addresses of the flash-attn wheels are those known to exist in November 2026.
"""

from helpers.environment.machine import Machine
from helpers.environment.versions import requirements, satisfies
from helpers.language import say

TORCH_INDEX = "https://mirror.nju.edu.cn/pytorch/whl"  # Nanjing University's mirror of PyTorch's own index
# Oldest Linux driver for torch built with CUDA 11.x, 12.x, 13.x: "minimum required driver version for minor
# version compatibility" in docs.nvidia.com/cuda/cuda-toolkit-release-notes.
MIN_DRIVER = {"11": "450.80.02", "12": "525.60.13", "13": "580"}
BLACKWELL = 10.0  # compute capability from which on torch must be built with CUDA 12.8 or newer

FLASH_CAPABILITY = 8.0  # flash-attn 2 runs on these GPUs and newer ones
# flash-attn 2.8.3 on the project's own release page: torch 2.9, Python 3.12, C++11 ABI TRUE, CUDA 12 and 13.
OFFICIAL_PAGE = "https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.3"
# In the community repository (list: its doc/packages.md): torch -> release. Each for Python 3.11 to 3.13 with
# CUDA 12.6 and 13.0, until torch 2.11 also with 12.8.
COMMUNITY_PAGE = "https://github.com/mjun0812/flash-attention-prebuild-wheels/releases/download"
COMMUNITY = {"2.9": "v0.9.0", "2.10": "v0.9.0", "2.11": "v0.9.4", "2.12": "v0.9.17", "2.13": "v0.9.47"}


def torch_command(machine: Machine) -> str:
    """Install a torch that this driver and these GPUs can use. The driver belongs to the host and stays."""
    command = f'pip install --force-reinstall "torch{requirements()["torch"]}"'
    if not machine.gpus:
        return command
    if satisfies(machine.driver, f">={MIN_DRIVER['13']}"):
        build = "cu130"
    elif any(gpu.capability >= BLACKWELL for gpu in machine.gpus):
        build = "cu128"
    else:
        build = "cu126"
    return f"{command} --index-url {TORCH_INDEX}/{build}"


def flash_attn_wheel(machine: Machine) -> tuple[str, str]:
    """Address of the flash-attn wheel for this Python, torch, CUDA, C++ ABI; or "" and why there is none."""
    if not machine.gpus or not machine.torch_cuda:
        return "", say("flash-attn needs a GPU and a CUDA build of torch")
    if min(gpu.capability for gpu in machine.gpus) < FLASH_CAPABILITY:
        return "", say("flash-attn 2 needs compute capability {capability}", capability=FLASH_CAPABILITY)
    torch = ".".join(machine.packages.get("torch", "").split(".")[:2])
    python = "".join(machine.python.split(".")[:2])
    cuda = machine.torch_cuda.replace(".", "")
    address = ""
    if machine.platform == "linux_x86_64" and machine.cxx11_abi and python in ("311", "312", "313"):
        address = _known_wheel(python, torch, cuda)
    if address:
        return address, ""
    return "", say(
        "no wheel is known for Python {python}, torch {torch}, CUDA {cuda}",
        python=machine.python,
        torch=torch,
        cuda=machine.torch_cuda,
    )


def _known_wheel(python: str, torch: str, cuda: str) -> str:
    """Address for Python such as "312", torch such as "2.9", CUDA such as "128"; "" if none is known."""
    end = f"cp{python}-cp{python}-linux_x86_64.whl"
    major = cuda[:2]
    if torch == "2.9" and python == "312" and major in ("12", "13"):
        return f"{OFFICIAL_PAGE}/flash_attn-2.8.3%2Bcu{major}torch2.9cxx11abiTRUE-{end}"
    builds = {"126", "130"}
    if satisfies(torch, "<2.12"):
        builds.add("128")
    if torch in COMMUNITY and cuda in builds:
        return f"{COMMUNITY_PAGE}/{COMMUNITY[torch]}/flash_attn-2.8.3%2Bcu{cuda}torch{torch}-{end}"
    return ""
