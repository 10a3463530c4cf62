"""Compare a machine with what a model needs: one line a fact, each with a verdict and a repair.

Uses nothing but its arguments, so a machine that nobody has rented yet can be checked too. No line shows a
path or a host name. GiB = 2^30 bytes, GB = 10^9 bytes.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from helpers import GB, GIB
from helpers.environment.machine import Machine
from helpers.environment.model_size import REAL_MODEL
from helpers.environment.probes import BF16_CAPABILITY
from helpers.environment.versions import requirements, satisfies
from helpers.environment.wheels import BLACKWELL, MIN_DRIVER, flash_attn_wheel, torch_command

WEIGHT_BYTES = 2 * REAL_MODEL.total  # in bf16: 26.67 GiB
CARD_BYTES = 3 * GIB // 2  # allowance on each card: CUDA itself, the peak of loading (0.65 GiB), a short chat
DISK_BYTES = WEIGHT_BYTES + 576_560 + 2 * GB  # the download (its files have headers) and a margin
# The weights pass through RAM one file of 3.7 GiB at a time: 8 GiB is a rule of thumb.
RAM_BYTES = {"real": 8 * GIB, "embedded": 2 * GIB}
INSTALL = "pip install -r requirements.txt"


class Check(NamedTuple):
    """One line of the table: the verdict is "OK", "warning" or "fail", the repair a command or an advice."""

    name: str
    found: str
    needed: str
    verdict: str
    repair: str


def judge(
    name: str, *, found: str, needed: str, good: bool, otherwise: str = "fail", repair: str = ""
) -> Check:
    """A line that is OK if `good`, else has the verdict `otherwise` and a repair."""
    if good:
        return Check(name=name, found=found, needed=needed, verdict="OK", repair="")
    return Check(name=name, found=found, needed=needed, verdict=otherwise, repair=repair)


def check(machine: Machine, model: str = "real") -> list[Check]:
    """Compare a machine with what a model ("real" or "embedded") needs; uses nothing but its arguments."""
    lines = [python_line(machine), torch_line(machine, model), *package_lines(machine)]
    if machine.gpus:
        lines += [gpu_line(machine, model), bf16_line(machine, model), driver_line(machine, model)]
    else:
        lines.append(no_gpu_line(machine, model))
    lines += [ram_line(machine, model), disk_line(machine, model)]
    lines += [flash_attn_line(machine), jupyterlab_line(machine), index_line(machine), proxy_line(machine)]
    return lines


def python_line(machine: Machine) -> Check:
    """transformers 5.23 needs 3.11; the course is tested up to 3.13."""
    return judge(
        "Python",
        found=machine.python,
        needed="3.11 to 3.13",
        good=satisfies(machine.python, ">=3.11,<3.14"),
        repair="take an image with Python 3.12, or: conda create -n course python=3.12",
    )


def torch_line(machine: Machine, model: str) -> Check:
    """Whether torch is there, can be imported, and was built for the GPUs here."""
    version = machine.packages.get("torch", "")
    cuda = machine.torch_cuda
    needed = requirements()["torch"]
    good = satisfies(version, needed) and cuda is not None
    if good and machine.gpus and not cuda:
        needed = "a CUDA build, for the GPUs here"
        good = model != "real"
    elif good and any(gpu.capability >= BLACKWELL for gpu in machine.gpus):
        needed = "CUDA 12.8 or newer, for this GPU"
        good = satisfies(cuda, ">=12.8")
    found = "missing"
    if version:
        found = f"{version} ({_torch_build(cuda)})"
    return judge("torch", found=found, needed=needed, good=good, repair=torch_command(machine))


def _torch_build(cuda: str | None) -> str:
    if cuda is None:
        return "its import fails"
    if cuda:
        return f"CUDA {cuda}"
    return "CPU build"


def package_lines(machine: Machine) -> Iterator[Check]:
    """One line for each package that is missing or has another version, or one that all is well."""
    apart = ("torch", "jupyterlab")  # they have lines of their own
    wanted = {name: specifier for name, specifier in requirements().items() if name not in apart}
    right = True
    for name, specifier in wanted.items():
        version = machine.packages.get(name, "")
        if satisfies(version, specifier):
            continue
        right = False
        verdict = "fail"
        if name in ("pytest", "nbval") or (name == "ipykernel" and version):
            verdict = "warning"
        yield judge(
            name,
            found=version or "missing",
            needed=specifier,
            good=False,
            otherwise=verdict,
            repair=INSTALL,
        )
    if right:
        yield judge("packages", found="as in requirements.txt", needed="requirements.txt", good=True)


def no_gpu_line(machine: Machine, model: str) -> Check:
    """The line of a machine without GPUs: enough for the embedded model."""
    needed = "none: the embedded model needs none"
    if model == "real":
        needed = "2 cards of 24 GiB, or 1 of 32 or more"
    return judge(
        "GPU",
        found=machine.gpu_problem or "none",
        needed=needed,
        good=model != "real",
        repair="rent GPUs; until then use the embedded model: export COURSE_MODEL=embedded",
    )


def gpu_line(machine: Machine, model: str) -> Check:
    """Whether the GPUs hold the weights, with room for the first steps."""
    names = [re.sub("NVIDIA |GeForce ", "", gpu.name) for gpu in machine.gpus]
    cards = " + ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))
    total = sum(gpu.memory for gpu in machine.gpus)
    minimum = WEIGHT_BYTES + CARD_BYTES * len(names)
    needed = "any"
    if model == "real":
        needed = f"{minimum / GIB:.1f} GiB: {WEIGHT_BYTES / GIB:.2f} of weights, {CARD_BYTES / GIB} a card"
    return judge(
        "GPU",
        found=f"{cards}, {total / GIB:.1f} GiB",
        needed=needed,
        good=total >= minimum or model != "real",
        repair="take a second card or a larger one; until then: export COURSE_MODEL=embedded",
    )


def bf16_line(machine: Machine, model: str) -> Check:
    """Whether every GPU computes in bf16."""
    capability = min(gpu.capability for gpu in machine.gpus)
    verdict = "warning"
    repair = "if the GPU gives errors, hide it: export CUDA_VISIBLE_DEVICES="
    if model == "real":
        verdict = "fail"
        repair = "take an RTX 3090 or newer; fp16 instead of bf16 makes this model write gibberish"
    return judge(
        "bf16",
        found=f"compute capability {capability}",
        needed=f"{BF16_CAPABILITY} or more",
        good=capability >= BF16_CAPABILITY,
        otherwise=verdict,
        repair=repair,
    )


def driver_line(machine: Machine, model: str) -> Check:
    """Whether the driver is new enough for the CUDA that torch was built with."""
    cuda = machine.torch_cuda or "12"
    oldest = MIN_DRIVER.get(cuda.split(".")[0], MIN_DRIVER["13"])
    verdict = "warning"
    if model == "real":
        verdict = "fail"
    return judge(
        "driver",
        found=machine.driver,
        needed=f"{oldest} or newer, for CUDA {cuda}",
        good=satisfies(machine.driver, f">={oldest}"),
        otherwise=verdict,
        repair=torch_command(machine),
    )


def ram_line(machine: Machine, model: str) -> Check:
    """Whether the RAM is enough to load the model; an unknown amount is not complained about."""
    needed = RAM_BYTES[model]
    found = "unknown"
    if machine.ram:
        found = f"{machine.ram / GIB:.1f} GiB"
    return judge(
        "RAM",
        found=found,
        needed=f"{needed // GIB} GiB",
        good=machine.ram == 0 or machine.ram >= needed,
        otherwise="warning",
        repair="take an instance with more RAM: loading will be slow or fail",
    )


def disk_line(machine: Machine, model: str) -> Check:
    """Whether the disk that takes the model has room for it, and is the right one."""
    if machine.downloaded:
        return judge("model disk", found="not needed", needed="the model is there", good=True)
    if model != "real":
        needed = "the embedded model is part of the course"
        return judge("model disk", found="not needed", needed=needed, good=True)
    found = f"{machine.free_disk / GB:.1f} GB free"
    enough = machine.free_disk >= DISK_BYTES
    system_disk = machine.autodl and not machine.data_disk
    verdict = "fail"
    if enough:
        verdict = "warning"
    repair = "delete what you no longer need, or enlarge the disk (on AutoDL: the page of the instance)"
    if system_disk:
        found += " on the system disk"
        repair = "use the data disk (the system disk has 30 GB): export MODELSCOPE_CACHE=/root/autodl-tmp"
    return judge(
        "model disk",
        found=found,
        needed=f"{DISK_BYTES / GB:.1f} GB: 28.6 of model, 2 of margin",
        good=enough and not system_disk,
        otherwise=verdict,
        repair=repair,
    )


def flash_attn_line(machine: Machine) -> Check:
    """flash-attn is optional: always OK, with a hint where it is missing."""
    version = machine.packages.get("flash-attn", "")
    address, reason = flash_attn_wheel(machine)
    hint = reason
    if address:
        hint = f"if you want it: pip install {address}"
    return judge(
        "flash-attn",
        found=version or "not installed: sdpa does its work",
        needed="optional",
        good=bool(version),
        otherwise="OK",
        repair=hint,
    )


def jupyterlab_line(machine: Machine) -> Check:
    """Whether the server is new enough and has the widgets, which the prompt box needs."""
    needed = requirements()["jupyterlab"]
    found = "not found"
    if machine.jupyterlab:
        found = f"{machine.jupyterlab}, widgets {machine.lab_widgets or 'missing'}"
    return judge(
        "JupyterLab",
        found=found,
        needed=f"{needed} with jupyterlab_widgets",
        good=satisfies(machine.jupyterlab, needed) and bool(machine.lab_widgets),
        otherwise="warning",
        repair=f"in the server's environment: {INSTALL}; restart it, reload the page",
    )


def index_line(machine: Machine) -> Check:
    """In China pip should ask a mirror."""
    needed = "any"
    if machine.autodl:
        needed = "a mirror in China"
    return judge(
        "pip index",
        found=machine.mirror or "the default one",
        needed=needed,
        good="mirror" in machine.mirror or not machine.autodl,
        otherwise="warning",
        repair="pip config set global.index-url https://pypi.tuna.tsinghua.edu.cn/simple",
    )


def proxy_line(machine: Machine) -> Check:
    """AutoDL's acceleration is a proxy, which slows down mirrors in China."""
    found = "off"
    if machine.proxy:
        found = "on"
    needed = "any"
    if machine.autodl:
        needed = "off, except for GitHub"
    return judge(
        "http_proxy",
        found=found,
        needed=needed,
        good=not (machine.proxy and machine.autodl),
        otherwise="warning",
        repair="unset http_proxy https_proxy",
    )
