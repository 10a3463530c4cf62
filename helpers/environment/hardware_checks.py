"""The lines of the check on hardware: GPUs, driver, RAM, disk, and what all that can do with the model."""

import re
from collections.abc import Iterator

from helpers import GB, GIB, settings
from helpers.environment.capacity import CUDA_CONTEXT, DISK_MARGIN, Capacity, Kind, Memory, decide
from helpers.environment.machine import Machine
from helpers.environment.model_size import DTYPE_BYTES, REAL_MODEL
from helpers.environment.planner import Planner
from helpers.environment.probes import BF16_CAPABILITY, cards_of
from helpers.environment.verdicts import CARD_BYTES, Check, Needs, judge
from helpers.environment.versions import satisfies
from helpers.environment.wheels import MIN_DRIVER, torch_command

#: State of a recorded download -> what to say of it.
DOWNLOAD_STATES = {
    "gone": "notebook 03 has recorded a download, but its folder is gone (a saved image loses the data disk)",
    "incomplete": "the folder of the recorded download lacks files or parts of them",
    "unreadable": "the record of a download, or its folder, cannot be read",
}


def nvidia_smi_lines(machine: Machine) -> Iterator[Check]:
    """A line only where something is wrong with the GPUs: "could not be read" is not "none"."""
    if machine.gpu_remedy:
        yield judge(
            "nvidia-smi",
            found="there is a problem",
            needed="a list of all GPUs",
            good=False,
            otherwise="warning",
            repair=f"{machine.gpu_problem}. Next step: {machine.gpu_remedy}",
        )


def memory_of(machine: Machine, needs: Needs) -> Memory:
    """Memory of a described machine, as `capacity.decide` needs it."""
    free_ram = machine.free_ram
    if free_ram is None:
        free_ram = machine.ram
    to_come = 0
    if machine.download.state != "complete":
        to_come = needs.download
    return Memory(
        cards=cards_of(machine.gpus),
        ram=free_ram,
        disk=max(0, machine.free_disk - to_come),
        holders=machine.gpu_holders,
    )


def gpu_line(machine: Machine, needs: Needs, planner: Planner | None) -> Check:
    """The GPUs that programs can use, and what this machine can do with the model."""
    found = describe_gpus(machine)
    if not needs.size:
        return judge(
            "GPU",
            found=found,
            needed="none: the embedded model needs none",
            good=not machine.gpu_remedy or bool(machine.gpus),
            otherwise="warning",
            repair="the embedded model runs without; see nvidia-smi above",
        )
    capacity = decide(needs.size, memory_of(machine, needs), planner)
    verdict = "fail"
    if capacity.kind is Kind.GPUS or (capacity.loads and not capacity.slow):
        verdict = "OK"
    elif capacity.loads or capacity.kind is Kind.DISK or capacity.keep:
        verdict = "warning"
    repair = capacity.sentence
    if started_without_gpus(machine):
        verdict = "warning"
        repair = "install and download now; then shut down, and start with GPUs"
    elif _is_memory_unknown(machine, capacity):
        verdict = "warning"
        repair = "how much memory there is could not be read: loading will tell whether it is enough"
    elif machine.hidden_gpus and not machine.gpus:
        repair = f"unset CUDA_VISIBLE_DEVICES to use the GPUs. {repair}"
    return Check(
        name="GPU", found=found, needed=_needed_memory(machine, needs), verdict=verdict, repair=repair
    )


def describe_gpus(machine: Machine) -> str:
    """As in "2 x RTX 3090, 48.0 GiB", or why there are none."""
    if not machine.gpus:
        if machine.gpu_remedy:
            return "could not be read"
        return machine.gpu_problem or "none"
    names = [re.sub("NVIDIA |GeForce ", "", gpu.name) for gpu in machine.gpus]
    cards = " + ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))
    total = sum(gpu.memory for gpu in machine.gpus)
    memory = f"{total / GIB:.1f} GiB"
    if not all(gpu.memory for gpu in machine.gpus):
        memory = "memory not shown"
    if machine.hidden_gpus:
        memory += f", {machine.hidden_gpus} more hidden"
    return f"{cards}, {memory}"


def _needed_memory(machine: Machine, needs: Needs) -> str:
    if not machine.gpus and needs.size == REAL_MODEL:
        return "2 cards of 24 GiB, or 1 of 32 or more"
    dtype = "bfloat16"
    if not has_bf16(machine):
        dtype = "float32"
    weights = f"{DTYPE_BYTES[dtype] * needs.size.total / GIB:.2f} GiB of weights"
    if len(machine.gpus) == 1:
        return f"{weights}, {CUDA_CONTEXT / GIB} and a tenth more"
    return f"{weights}, {CARD_BYTES / GIB} a card more"


def has_bf16(machine: Machine) -> bool:
    """Whether every GPU computes in bf16, as far as that is known."""
    return all(card.bf16 for card in cards_of(machine.gpus))


def started_without_gpus(machine: Machine) -> bool:
    """AutoDL's start without GPU: good for installing and downloading, at a fraction of the price."""
    return machine.autodl and not (machine.gpus or machine.gpu_remedy or machine.hidden_gpus)


def _is_memory_unknown(machine: Machine, capacity: Capacity) -> bool:
    """Whether the answer rests on a memory that could not be read."""
    if any(gpu.memory == 0 for gpu in machine.gpus):
        return True
    return machine.ram == 0 and capacity.kind is not Kind.GPUS


def bf16_line(machine: Machine, needs: Needs) -> Check:
    """Whether every GPU computes in bf16. Without it the weights are loaded in float32, at twice the size."""
    capability = min(gpu.capability for gpu in machine.gpus)
    found = f"compute capability {capability}"
    repair = "if the GPU gives errors, hide it: export CUDA_VISIBLE_DEVICES="
    if needs.size:
        repair = (
            "the model is loaded in float32, twice the size, and is slower; an RTX 3090 or newer has bf16 "
            "(fp16 instead has too small a range: numbers can overflow, and the answer is gibberish)"
        )
    if capability == 0:
        found = "could not be read"
        repair = "python -c 'import torch; print(torch.cuda.get_device_capability())' tells it"
    return judge(
        "bf16",
        found=found,
        needed=f"{BF16_CAPABILITY} or more",
        good=capability >= BF16_CAPABILITY,
        otherwise="warning",
        repair=repair,
    )


def driver_line(machine: Machine, needs: Needs) -> Check:
    """Whether the driver is new enough for the CUDA that torch was built with."""
    cuda = machine.torch_cuda or "12"
    oldest = MIN_DRIVER.get(cuda.split(".")[0], MIN_DRIVER["13"])
    verdict = "warning"
    if needs.size:
        verdict = "fail"
    return judge(
        "driver",
        found=machine.driver,
        needed=f"{oldest} or newer, for CUDA {cuda}",
        good=satisfies(machine.driver, f">={oldest}"),
        otherwise=verdict,
        repair=torch_command(machine),
    )


def ram_line(machine: Machine, needs: Needs) -> Check:
    """Whether the RAM is enough to load the model; an unknown amount is not complained about."""
    found = "could not be read"
    if machine.ram:
        found = f"{machine.ram / GIB:.1f} GiB"
    needed = f"{needs.ram // GIB} GiB"
    good = machine.ram == 0 or machine.ram >= needs.ram
    if started_without_gpus(machine):
        needed = f"{needed} when it has GPUs"
        good = True
    return judge(
        "RAM",
        found=found,
        needed=needed,
        good=good,
        otherwise="warning",
        repair="take an instance with more RAM: loading will be slow or fail",
    )


def disk_line(machine: Machine, needs: Needs) -> Check:
    """Whether the disk that takes the model has room for it, and is the right one."""
    where = needs.where
    if needs.size == REAL_MODEL and machine.download.state == "complete":
        where = "the model is there"
    if where:
        return judge("model disk", found="not needed", needed=where, good=True)
    present = 0
    if machine.download.state == "incomplete":
        present = min(machine.download.present, needs.download)
    missing = needs.download - present
    enough = machine.free_disk >= missing
    advice = [_disk_advice(machine, enough)]
    if machine.download.state in DOWNLOAD_STATES:
        repeat = "python -m helpers.download download fetches what is missing"
        advice.insert(0, f"{DOWNLOAD_STATES[machine.download.state]}; {repeat}")
    advice = [text for text in advice if text]
    verdict = "fail"
    if enough:
        verdict = "warning"
    needed = f"{missing / GB:.1f} GB: {(missing - DISK_MARGIN) / GB:.1f} of model, 2 of margin"
    return judge(
        "model disk",
        found=f"{machine.free_disk / GB:.1f} GB free on the {machine.disk}",
        needed=needed,
        good=not advice,
        otherwise=verdict,
        repair=". ".join(advice),
    )


def _disk_advice(machine: Machine, enough: bool) -> str:
    """What to do about the disk; "" if it is right. Only AutoDL's disks are known by their kind."""
    to_data_disk = f"export MODELSCOPE_CACHE={settings.DATA_DISK}"
    if machine.autodl and machine.disk == "system disk":
        return f"use the data disk (the system disk has 30 GB): {to_data_disk}"
    if machine.autodl and machine.disk == "file storage":
        return f"use the data disk (the file storage is slow to load from): {to_data_disk}"
    if not enough:
        return "delete what you no longer need, or enlarge the disk (on AutoDL: the page of the instance)"
    return ""
