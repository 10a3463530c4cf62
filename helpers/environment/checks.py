"""Check whether this machine can run the course: `python -m helpers.environment`, also before any install.

Standard library only, and syntax that Python 3.10 accepts: the check has to run on an outdated image too.
GiB = 2^30 bytes, GB = 10^9 bytes. No line of the table shows a path or a host name of this machine.
"""

import argparse
import os
import platform
import re
from collections.abc import Iterator
from typing import NamedTuple

from helpers import EMBEDDED_MODEL
from helpers.environment.machine import Machine, package_version, read_machine, requirements

GIB, GB = 2**30, 10**9
WEIGHT_BYTES = 2 * 14_315_784_192  # all parameters (notebook 01 counts them) in bf16: 26.67 GiB
CARD_BYTES = int(
    1.5 * GIB
)  # allowance on each card: CUDA itself, the peak of loading (0.65 GiB), a short chat
DISK_BYTES = WEIGHT_BYTES + 576_560 + 2 * GB  # the download (its files have headers) and a margin
# Oldest Linux driver for torch built with CUDA 11.x, 12.x, 13.x: "minimum required driver version for minor
# version compatibility" in docs.nvidia.com/cuda/cuda-toolkit-release-notes.
MIN_DRIVER = {"11": "450.80.02", "12": "525.60.13", "13": "580"}
TORCH_INDEX = "https://mirror.nju.edu.cn/pytorch/whl"  # Nanjing University's mirror of PyTorch's own index
# flash-attn 2.8.3 wheels known to exist in November 2026 (there may be more). On the project's release page:
# torch 2.9, Python 3.12, C++11 ABI TRUE. In the community repository (list: its doc/packages.md): in these
# releases, each for Python 3.11 to 3.13 with CUDA 12.6 and 13.0, until torch 2.11 also 12.8.
OFFICIAL_PAGE = "https://github.com/Dao-AILab/flash-attention/releases/download/v2.8.3"
COMMUNITY_PAGE = "https://github.com/mjun0812/flash-attention-prebuild-wheels/releases/download"
COMMUNITY = {"2.9": "v0.9.0", "2.10": "v0.9.0", "2.11": "v0.9.4", "2.12": "v0.9.17", "2.13": "v0.9.47"}


class Check(NamedTuple):
    """One line of the table: the verdict is "OK", "warning" or "fail", the repair a command or an advice."""

    name: str
    found: str
    needed: str
    verdict: str
    repair: str


def print_versions(*packages: str) -> None:
    """Print the version of Python and of each package, one `name version` per line."""
    width = max(len(name) for name in ("Python", *packages))
    print(f"{'Python':<{width}} {platform.python_version()}")
    for name in packages:
        print(f"{name:<{width}} {package_version(name) or 'not installed'}")


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version such as "2.13.0+cpu" meets a specifier such as ">=2.9,!=2.10.*,<2.14"."""
    have = [int(n) for n in re.match(r"[\d.]*", version)[0].split(".") if n]
    good = bool(have)
    for sign, text in re.findall(r"(==|!=|>=|<)([\d.]+)", specifier):
        bound = [int(n) for n in text.split(".") if n]
        same = have[: len(bound)] == bound
        good &= {"==": same, "!=": not same, ">=": have >= bound, "<": have < bound}[sign]
    return good


def flash_attn_wheel(machine: Machine) -> tuple[str, str]:
    """Address of the flash-attn wheel for this Python, torch, CUDA, C++ ABI; or "" and why there is none."""
    torch = ".".join(machine.packages.get("torch", "").split(".")[:2])
    python, cuda = "".join(machine.python.split(".")[:2]), (machine.torch_cuda or "").replace(".", "")
    end = f"cp{python}-cp{python}-linux_x86_64.whl"
    if not machine.gpus or not cuda:
        return "", "flash-attn needs a GPU and a CUDA build of torch"
    if min(gpu.capability for gpu in machine.gpus) < 8.0:
        return "", "flash-attn 2 needs compute capability 8.0"
    if machine.platform == "linux_x86_64" and machine.cxx11_abi and python in ("311", "312", "313"):
        if (torch, python) == ("2.9", "312") and cuda[:2] in ("12", "13"):
            return f"{OFFICIAL_PAGE}/flash_attn-2.8.3%2Bcu{cuda[:2]}torch2.9cxx11abiTRUE-{end}", ""
        if torch in COMMUNITY and (cuda in ("126", "130") or (cuda == "128" and satisfies(torch, "<2.12"))):
            return f"{COMMUNITY_PAGE}/{COMMUNITY[torch]}/flash_attn-2.8.3%2Bcu{cuda}torch{torch}-{end}", ""
    return "", f"no wheel is known for Python {machine.python}, torch {torch}, CUDA {machine.torch_cuda}"


def check(machine: Machine, model: str = "real") -> list[Check]:
    """Compare a machine with what a model ("real" or "embedded") needs; uses nothing but its arguments."""
    real = model == "real"
    parts = (_software(machine, real), _gpus(machine, real), _storage(machine, real), _settings(machine))
    return [
        Check(name, found, needed, "OK" if good else verdict, "" if good else repair)
        for part in parts
        for name, found, needed, good, verdict, repair in part
    ]


Lines = Iterator[tuple[str, str, str, bool, str, str]]  # name, found, needed, good, else this verdict, repair


def _torch_command(machine: Machine) -> str:
    """Install a torch that this driver and these GPUs can use. The driver belongs to the host and stays."""
    old = "cu128" if any(gpu.capability >= 10 for gpu in machine.gpus) else "cu126"
    build = "cu130" if satisfies(machine.driver, ">=580") else old
    command = f'pip install --force-reinstall "torch{requirements()["torch"]}"'
    return command + (f" --index-url {TORCH_INDEX}/{build}" if machine.gpus else "")


def _software(machine: Machine, real: bool) -> Lines:
    advice = "take an image with Python 3.12, or: conda create -n course python=3.12"
    yield "Python", machine.python, "3.11 to 3.13", satisfies(machine.python, ">=3.11,<3.14"), "fail", advice
    torch, needed, cuda = machine.packages.get("torch", ""), requirements()["torch"], machine.torch_cuda
    build = "its import fails" if cuda is None else f"CUDA {cuda}" if cuda else "CPU build"
    good = satisfies(torch, needed) and cuda is not None
    if good and machine.gpus and not cuda:
        needed, good = "a CUDA build, for the GPUs here", not real
    elif good and any(gpu.capability >= 10 for gpu in machine.gpus):
        needed, good = "CUDA 12.8 or newer, for this GPU", satisfies(cuda, ">=12.8")
    yield "torch", f"{torch} ({build})" if torch else "missing", needed, good, "fail", _torch_command(machine)
    others = {name: text for name, text in requirements().items() if name not in ("torch", "jupyterlab")}
    wrong = [n for n, specifier in others.items() if not satisfies(machine.packages.get(n, ""), specifier)]
    for name in wrong:
        version = machine.packages.get(name, "")
        lenient = name in ("pytest", "nbval") or (name == "ipykernel" and version)
        verdict = "warning" if lenient else "fail"
        yield name, version or "missing", others[name], False, verdict, "pip install -r requirements.txt"
    if not wrong:
        yield "packages", "as in requirements.txt", "requirements.txt", True, "", ""


def _gpus(machine: Machine, real: bool) -> Lines:
    if not machine.gpus:
        needed = "2 cards of 24 GiB, or 1 of 32 or more" if real else "none: the embedded model needs none"
        advice = "rent GPUs; until then use the embedded model: export COURSE_MODEL=embedded"
        yield "GPU", machine.gpu_problem, needed, not real, "fail", advice
        return
    names = [re.sub("NVIDIA |GeForce ", "", gpu.name) for gpu in machine.gpus]
    total, minimum = sum(gpu.memory for gpu in machine.gpus), WEIGHT_BYTES + CARD_BYTES * len(names)
    found = " + ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))
    needed = f"{minimum / GIB:.1f} GiB: {WEIGHT_BYTES / GIB:.2f} of weights, {CARD_BYTES / GIB} a card"
    advice = "take a second card or a larger one; until then: export COURSE_MODEL=embedded"
    enough = total >= minimum or not real
    yield "GPU", f"{found}, {total / GIB:.1f} GiB", needed if real else "any", enough, "fail", advice
    capability, verdict = min(gpu.capability for gpu in machine.gpus), "fail" if real else "warning"
    advice = "take an RTX 3090 or newer; fp16 instead of bf16 makes this model write gibberish"
    if not real:
        advice = "if the GPU gives errors, hide it: export CUDA_VISIBLE_DEVICES="
    yield "bf16", f"compute capability {capability}", "8.0 or more", capability >= 8.0, verdict, advice
    cuda = machine.torch_cuda or "12"
    oldest = MIN_DRIVER.get(cuda.split(".")[0], MIN_DRIVER["13"])
    good, needed = satisfies(machine.driver, f">={oldest}"), f"{oldest} or newer, for CUDA {cuda}"
    yield "driver", machine.driver, needed, good, verdict, _torch_command(machine)


def _storage(machine: Machine, real: bool) -> Lines:
    # The weights pass through RAM one file of 3.7 GiB at a time: 8 GiB is a rule of thumb.
    needed, advice = 8 if real else 2, "take an instance with more RAM: loading will be slow or fail"
    found = f"{machine.ram / GIB:.1f} GiB" if machine.ram else "unknown"
    yield "RAM", found, f"{needed} GiB", not 0 < machine.ram < needed * GIB, "warning", advice
    if not real or machine.downloaded:
        found = "the model is there" if machine.downloaded else "the embedded model is part of the course"
        yield "model disk", "not needed", found, True, "", ""
        return
    found = f"{machine.free_disk / GB:.1f} GB free"
    system, enough = machine.autodl and not machine.data_disk, machine.free_disk >= DISK_BYTES
    needed = f"{DISK_BYTES / GB:.1f} GB: 28.6 of model, 2 of margin"
    advice = "delete what you no longer need, or enlarge the disk (on AutoDL: the page of the instance)"
    if system:
        found += " on the system disk"
        advice = "use the data disk (the system disk has 30 GB): export MODELSCOPE_CACHE=/root/autodl-tmp"
    yield "model disk", found, needed, enough and not system, "warning" if enough else "fail", advice


def _settings(machine: Machine) -> Lines:
    flash, (wheel, reason) = machine.packages.get("flash-attn", ""), flash_attn_wheel(machine)
    hint = f"if you want it: pip install {wheel}" if wheel else reason
    yield "flash-attn", flash or "not installed: sdpa does its work", "optional", bool(flash), "OK", hint
    lab, needed = machine.jupyterlab, requirements()["jupyterlab"]
    found = f"{lab}, widgets {machine.lab_widgets or 'missing'}" if lab else "not found"
    good = satisfies(lab, needed) and bool(machine.lab_widgets)
    advice = "in the server's environment: pip install -r requirements.txt; restart it, reload the page"
    yield "JupyterLab", found, f"{needed} with jupyterlab_widgets", good, "warning", advice
    advice = "pip config set global.index-url https://pypi.tuna.tsinghua.edu.cn/simple"
    needed, good = ("a mirror in China", "mirror" in machine.mirror) if machine.autodl else ("any", True)
    yield "pip index", machine.mirror or "the default one", needed, good, "warning", advice
    found, needed = "on" if machine.proxy else "off", "off, except for GitHub" if machine.autodl else "any"
    good = not (machine.proxy and machine.autodl)
    yield "http_proxy", found, needed, good, "warning", "unset http_proxy https_proxy"


def show_environment(machine: Machine | None = None, model: str = "") -> list[Check]:
    """Print the table for a machine (default: this one) and return its lines.

    The model is "real" or "embedded"; "" takes what COURSE_MODEL says, else "real" where there is a GPU.
    """
    machine, chosen = machine or read_machine(), os.environ.get("COURSE_MODEL", "")
    embedded = chosen in ("embedded", str(EMBEDDED_MODEL)) if chosen else not machine.gpus
    model = model or ("embedded" if embedded else "real")
    checks = check(machine, model)
    print(f"{'verdict':<9}{'check':<16}{'found':<37}needed\n{'-' * 100}")
    for line, following in zip(checks, [*checks[1:], None], strict=True):
        print(f"{line.verdict:<9}{line.name:<16}{line.found:<37}{line.needed}")
        if line.repair and (following is None or following.repair != line.repair):
            print(f"{'':<9}-> {line.repair}")
    fails, warnings = (sum(line.verdict == verdict for line in checks) for verdict in ("fail", "warning"))
    verdict = "cannot" if fails else "can"
    print(f"{'-' * 100}\nThis machine {verdict} run the {model} model: {fails} fail, {warnings} warning.")
    return checks


DESCRIPTION = "Check whether this machine can run the course."


def main() -> int:
    parser = argparse.ArgumentParser("python -m helpers.environment", description=DESCRIPTION)
    parser.add_argument("--model", choices=["real", "embedded"], default="")
    return int(any(line.verdict == "fail" for line in show_environment(model=parser.parse_args().model)))
