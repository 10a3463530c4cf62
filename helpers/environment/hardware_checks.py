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
from helpers.language import say, to_say
from helpers.terminal import figures_of, steps

#: State of a recorded download -> what to say of it.
DOWNLOAD_STATES = {
    "gone": to_say(
        "notebook 03 has recorded a download, but its folder is gone (a saved image loses the data disk); "
        "python -m helpers.download download fetches what is missing"
    ),
    "incomplete": to_say(
        "the folder of the recorded download lacks files or parts of them; "
        "python -m helpers.download download fetches what is missing"
    ),
    "unreadable": to_say(
        "the record of a download, or its folder, cannot be read; "
        "python -m helpers.download download fetches what is missing"
    ),
}


def nvidia_smi_lines(machine: Machine) -> Iterator[Check]:
    """A line only where something is wrong with the GPUs: "could not be read" is not "none"."""
    if machine.gpu_remedy:
        yield judge(
            "nvidia-smi",
            found=say("there is a problem"),
            needed=say("a list of all GPUs"),
            good=False,
            otherwise="warning",
            repair=say(
                "{problem}. Next step: {remedy}",
                problem=machine.gpu_problem,
                remedy=machine.gpu_remedy,
            ),
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
            needed=say("none: the embedded model needs none"),
            good=not machine.gpu_remedy or bool(machine.gpus),
            otherwise="warning",
            repair=say("the embedded model runs without; see nvidia-smi above"),
        )
    capacity = decide(needs.size, memory_of(machine, needs), planner)
    verdict = "fail"
    if capacity.kind is Kind.GPUS or (capacity.loads and not capacity.slow):
        verdict = "OK"
    elif capacity.loads or capacity.kind is Kind.DISK or capacity.keep:
        verdict = "warning"
    repair = capacity.sentence
    slow = capacity.tells_of_slowness
    if started_without_gpus(machine):
        verdict = "warning"
        repair = say("install and download now; then shut down, and start with GPUs")
        slow = False
    elif _is_memory_unknown(machine, capacity):
        verdict = "warning"
        repair = say("how much memory there is could not be read: loading will tell whether it is enough")
        slow = False
    elif machine.hidden_gpus and not machine.gpus:
        repair = say("unset CUDA_VISIBLE_DEVICES to use the GPUs. {sentence}", sentence=repair)
    needed = _needed_memory(machine, needs)
    return Check(name="GPU", found=found, needed=needed, verdict=verdict, repair=repair, slow=slow)


def describe_gpus(machine: Machine) -> str:
    """As in "2 x RTX 3090, 48.0 GiB", or why there are none."""
    if not machine.gpus:
        if machine.gpu_remedy:
            return say("could not be read")
        return machine.gpu_problem or say("none")
    names = [re.sub("NVIDIA |GeForce ", "", gpu.name) for gpu in machine.gpus]
    cards = " + ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))
    total = sum(gpu.memory for gpu in machine.gpus)
    memory = f"{total / GIB:.1f} GiB"
    if not all(gpu.memory for gpu in machine.gpus):
        memory = say("memory not shown")
    found = [cards, memory]
    if machine.hidden_gpus:
        found.append(say("{count} more hidden", count=machine.hidden_gpus))
    return figures_of(found)


def _needed_memory(machine: Machine, needs: Needs) -> str:
    if not machine.gpus and needs.size == REAL_MODEL:
        return say("2 cards of 24 GiB, or 1 of 32 or more")
    dtype = "bfloat16"
    if not has_bf16(machine):
        dtype = "float32"
    weights = DTYPE_BYTES[dtype] * needs.size.total / GIB
    if len(machine.gpus) == 1:
        sentence = to_say("{weights:.2f} GiB of weights, {more} and a tenth more")
        return say(sentence, weights=weights, more=CUDA_CONTEXT / GIB)
    return say("{weights:.2f} GiB of weights, {more} a card more", weights=weights, more=CARD_BYTES / GIB)


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
    found = say("compute capability {capability}", capability=capability)
    repair = say("if the GPU gives errors, hide it: export CUDA_VISIBLE_DEVICES=")
    if needs.size:
        repair = say(
            "the model is loaded in float32, twice the size, and is slower; an RTX 3090 or newer has bf16 "
            "(fp16 instead has too small a range: numbers can overflow, and the answer is gibberish)"
        )
    if capability == 0:
        found = say("could not be read")
        repair = say("python -c 'import torch; print(torch.cuda.get_device_capability())' tells it")
    return judge(
        "bf16",
        found=found,
        needed=say("{capability} or more", capability=BF16_CAPABILITY),
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
        to_say("driver"),
        found=machine.driver,
        needed=say("{oldest} or newer, for CUDA {cuda}", oldest=oldest, cuda=cuda),
        good=satisfies(machine.driver, f">={oldest}"),
        otherwise=verdict,
        repair=torch_command(machine),
    )


def ram_line(machine: Machine, needs: Needs) -> Check:
    """Whether the RAM is enough to load the model; an unknown amount is not complained about."""
    found = say("could not be read")
    if machine.ram:
        found = f"{machine.ram / GIB:.1f} GiB"
    needed = f"{needs.ram // GIB} GiB"
    good = machine.ram == 0 or machine.ram >= needs.ram
    if started_without_gpus(machine):
        needed = say("{size} when it has GPUs", size=needed)
        good = True
    return judge(
        to_say("RAM"),
        found=found,
        needed=needed,
        good=good,
        otherwise="warning",
        repair=say("take an instance with more RAM: loading will be slow or fail"),
    )


def disk_line(machine: Machine, needs: Needs) -> Check:
    """Whether the disk that takes the model has room for it, and is the right one."""
    where = needs.where
    if needs.size == REAL_MODEL and machine.download.state == "complete":
        where = say("the model is there")
    if where:
        return judge(to_say("model disk"), found=say("not needed"), needed=where, good=True)
    present = 0
    if machine.download.state == "incomplete":
        present = min(machine.download.present, needs.download)
    missing = needs.download - present
    enough = machine.free_disk >= missing
    about_download = ""
    if machine.download.state in DOWNLOAD_STATES:
        about_download = say(DOWNLOAD_STATES[machine.download.state])
    advice = steps(about_download, _disk_advice(machine, enough))
    verdict = "fail"
    if enough:
        verdict = "warning"
    needed = say(
        "{missing:.1f} GB: {model:.1f} of model, {margin} of margin",
        missing=missing / GB,
        model=(missing - DISK_MARGIN) / GB,
        margin=DISK_MARGIN // GB,
    )
    found = say("{free:.1f} GB free on the {disk}", free=machine.free_disk / GB, disk=say(machine.disk))
    return judge(
        "model disk",
        found=found,
        needed=needed,
        good=not advice,
        otherwise=verdict,
        repair=advice,
    )


def _disk_advice(machine: Machine, enough: bool) -> str:
    """What to do about the disk; "" if it is right. Only AutoDL's disks are known by their kind."""
    to_data_disk = f"export MODELSCOPE_CACHE={settings.DATA_DISK}"
    if machine.autodl and machine.disk == "system disk":
        return say("use the data disk (the system disk has 30 GB): {command}", command=to_data_disk)
    if machine.autodl and machine.disk == "file storage":
        return say(
            "use the data disk (the file storage is slow to load from): {command}", command=to_data_disk
        )
    if not enough:
        return say(
            "delete what you no longer need, or enlarge the disk (on AutoDL: the page of the instance)"
        )
    return ""
