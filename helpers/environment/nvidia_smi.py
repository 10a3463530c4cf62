"""The only place of the course that runs nvidia-smi, and what it says of the GPUs.

nvidia-smi comes with the driver and fails in many ways. "It could not say" is not "there are none": a failure
is told in nvidia-smi's own words, with the next step. A hung driver can keep it in the kernel, where no
signal ends it: so it writes into a temporary file (a pipe would be waited for), it gets a time limit, and
after that nobody waits for it.
"""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from helpers import GIB
from helpers.environment.visible_devices import VARIABLE, visible_devices
from helpers.language import say, to_say

MIB = 2**20
SECONDS = 10.0  # a healthy nvidia-smi answers in less than two
FIELDS = ("driver_version", "memory.total", "memory.free", "compute_cap", "mig.mode.current", "uuid", "name")
QUOTED = 200  # characters of what nvidia-smi says
MIG_SHARE = 0.95  # a slice called "20gb" has 95 to 98 % of 20 GiB

NOT_SHOWN = ("[N/A]", "[Not Supported]", "N/A")

CRASHES = to_say(
    "nvidia-smi crashes: restart the machine (on AutoDL: shut the instance down and start it again); "
    "if that does not help, take another host"
)
HANGS = to_say("the driver hangs: restart the machine (on AutoDL: shut the instance down and start it again)")
REPLACED = to_say(
    "the driver was replaced while it was running: "
    "restart the machine (on AutoDL: shut the instance down and start it again)"
)
DROPPED_OUT = to_say(
    "a card has dropped out: restart the machine (on AutoDL: shut the instance down and start it again); "
    "if it stays away, take another host"
)
SILENT_CARD = to_say(
    "a card does not answer: restart the machine (on AutoDL: shut the instance down and start it again); "
    "if it stays away, take another host"
)
NOT_RUNNING = to_say(
    "the driver is not running: restart the machine (on AutoDL: shut the instance down and start it again), "
    "or take another host"
)
SHARED_MEMORY = to_say(
    "a GPU that shares the RAM has none of its own; torch.cuda.mem_get_info() tells what is free"
)
OTHER_REMEDY = to_say(
    "run nvidia-smi in a terminal; "
    "restart the machine (on AutoDL: shut the instance down and start it again); "
    "if that does not help, take another host"
)
#: What nvidia-smi says when it fails -> what to do. The first that occurs in its answer counts.
REMEDIES = {
    "libnvidia-ml": to_say(
        "the driver's library is missing here: start with GPUs, or take an image that has it"
    ),
    "version mismatch": REPLACED,
    "not a valid field": to_say(
        "this driver is too old for the course: take a host with driver 525.60.13 or newer"
    ),
    "is lost": DROPPED_OUT,
    "fallen off the bus": DROPPED_OUT,
    "device handle": SILENT_CARD,
    "communicate with the NVIDIA driver": NOT_RUNNING,
    "Driver Not Loaded": NOT_RUNNING,
    "Permission": to_say("this user may not use the GPUs: ask whoever runs this machine"),
    "blocked by the operating system": to_say("this system blocks the GPU: restart it, or update its driver"),
    "[N/A]": SHARED_MEMORY,
    "[Not Supported]": SHARED_MEMORY,
}
NO_DEVICES = "No devices were found"


@dataclass(frozen=True)
class Gpu:
    """One GPU: name, memory in bytes, compute capability such as 8.6; `free` bytes, None if not known.

    `memory` 0 and `capability` 0: the driver does not say. `uuid` names it in CUDA_VISIBLE_DEVICES.
    """

    name: str
    memory: int
    capability: float
    free: int | None = None
    uuid: str = ""


@dataclass(frozen=True)
class GpuReport:
    """What nvidia-smi says. `gpus`: those that CUDA lets a program use, in CUDA's order.

    `problem`: what is wrong, or why there are none. `remedy`: the next step; "" where nothing is broken.
    `hidden`: GPUs that CUDA_VISIBLE_DEVICES keeps from programs.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""
    remedy: str = ""
    hidden: tuple[Gpu, ...] = ()


class Answer(NamedTuple):
    """All that nvidia-smi wrote, and its exit status; below 0: the signal that ended it."""

    text: str
    code: int


def ask(arguments: list[str], seconds: float = SECONDS) -> Answer:
    """Run nvidia-smi, whether it succeeds or not.

    FileNotFoundError if there is none, another OSError if it cannot be started, TimeoutError if it has not
    answered after `seconds`.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as answer:
        process = subprocess.Popen(
            ["nvidia-smi", *arguments], stdin=subprocess.DEVNULL, stdout=answer, stderr=answer
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise TimeoutError from None
        answer.seek(0)
        return Answer(answer.read(), process.returncode)


class Complaint(NamedTuple):
    """What is wrong with the GPUs, and the next step; "" and "" if nothing is."""

    problem: str = ""
    remedy: str = ""


def read_gpus(seconds: float = SECONDS, root: str = "/") -> GpuReport:
    """The GPUs that a program on this machine can use. `root`: of the file system, replaced by tests."""
    query = [f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = ask(query, seconds)
    except FileNotFoundError:
        return _without_nvidia_smi(root)
    except TimeoutError:
        problem = say("nvidia-smi gave no answer in {seconds:g} s", seconds=seconds)
        return GpuReport(problem=problem, remedy=say(HANGS))
    except OSError as error:
        problem = say("nvidia-smi cannot be started: {reason}", reason=error.strerror)
        return GpuReport(problem=problem, remedy=say(OTHER_REMEDY))
    rows = _rows(answer.text)
    gpus = [_gpu(row) for row in rows if _works(row) and not _is_sliced(row)]
    complaint = _complaint(answer, rows)
    sliced = [row for row in rows if _is_sliced(row)]
    if sliced:
        if not gpus or os.environ.get(VARIABLE, "").startswith("MIG-"):
            gpus = read_slices(sliced[0], seconds)
        complaint = Complaint(
            say("MIG mode: a program can use at most one slice of {name}", name=sliced[0]["name"]),
            say("ask whoever runs this machine to switch it off: nvidia-smi -mig 0"),
        )
    elif not rows and not complaint.problem:
        complaint = Complaint(say("nvidia-smi lists none"))
    report = only_visible(GpuReport(tuple(gpus), problem=complaint.problem, remedy=complaint.remedy))
    if rows:
        report = replace(report, driver=rows[0]["driver_version"])
    return report


def only_visible(report: GpuReport) -> GpuReport:
    """What CUDA_VISIBLE_DEVICES leaves of the GPUs, in CUDA's order; of several slices only the first."""
    gpus = report.gpus
    strengths = [gpu.memory * gpu.capability for gpu in gpus]
    visible = visible_devices([gpu.uuid for gpu in gpus], strengths)
    positions = visible.positions
    if gpus and gpus[0].uuid.startswith("MIG-"):
        positions = positions[:1]
    shown = tuple(gpus[position] for position in positions)
    hidden = tuple(gpu for position, gpu in enumerate(gpus) if position not in positions)
    report = replace(report, gpus=shown, hidden=hidden)
    if visible.problem:
        remedy = say("correct {variable}, or unset it", variable=VARIABLE)
        return replace(report, problem=visible.problem, remedy=remedy)
    if gpus and not shown:
        problem = say("none: {variable} hides {count}", variable=VARIABLE, count=len(hidden))
        return replace(report, problem=problem, remedy="")
    return report


def _without_nvidia_smi(root: str) -> GpuReport:
    """No nvidia-smi: then there is no GPU, unless the kernel has an NVIDIA driver."""
    if not Path(root, "proc/driver/nvidia/version").exists():
        return GpuReport(problem=say("none (no nvidia-smi)"))
    return GpuReport(
        problem=say("there is an NVIDIA driver, but no nvidia-smi on the PATH"),
        remedy=say("add its folder to PATH, or take an image that has it"),
    )


def _rows(text: str) -> list[dict[str, str]]:
    """The lines of the answer that are a GPU: field -> what nvidia-smi wrote."""
    rows = []
    for line in text.splitlines():
        if _is_row(line):
            cells = [cell.strip() for cell in line.split(",", len(FIELDS) - 1)]
            rows.append(dict(zip(FIELDS, cells, strict=True)))
    return rows


def _is_row(line: str) -> bool:
    """Whether a line is a GPU and not a sentence: as many cells as fields, the first a driver's version."""
    return line.count(",") >= len(FIELDS) - 1 and bool(re.match(r"\s*(\d|\[)", line))


def _works(row: dict[str, str]) -> bool:
    """Whether this GPU works: it has a figure for its memory, or none because it shares the RAM."""
    return row["memory.total"].isdigit() or row["memory.total"] in NOT_SHOWN


def _is_sliced(row: dict[str, str]) -> bool:
    """Whether this GPU is in MIG mode: cut into slices, of which CUDA gives a program only one."""
    return row["mig.mode.current"] == "Enabled"


def _gpu(row: dict[str, str]) -> Gpu:
    total = 0
    if row["memory.total"].isdigit():
        total = int(row["memory.total"]) * MIB
    free = None
    if row["memory.free"].isdigit():
        free = int(row["memory.free"]) * MIB
    capability = 0.0
    if re.fullmatch(r"\d+\.\d+", row["compute_cap"]):
        capability = float(row["compute_cap"])
    return Gpu(row["name"], total, capability, free, row["uuid"])


def _complaint(answer: Answer, rows: list[dict[str, str]]) -> Complaint:
    """What nvidia-smi complains about, in its own words; nothing if it does not, or only finds no GPU."""
    for row in rows:
        memory = row["memory.total"]
        if not memory.isdigit():
            return Complaint(_memory_problem(row["name"], memory), _remedy(memory))
    quoted = _complaining_line(answer.text, bool(rows))
    if quoted:
        return Complaint(say("nvidia-smi says: {words}", words=quoted), _remedy(quoted))
    if answer.code < 0:
        return Complaint(say("nvidia-smi was ended by signal {number}", number=-answer.code), say(CRASHES))
    if answer.code and not answer.text.strip():
        problem = say("nvidia-smi says nothing, and its exit status is {code}", code=answer.code)
        return Complaint(problem, say(OTHER_REMEDY))
    return Complaint()


def _complaining_line(text: str, has_gpus: bool) -> str:
    """The first line that is a complaint, as far as it can be shown; "" if there is none."""
    lines = [line.strip() for line in text.splitlines()]
    words = [line for line in lines if line and not _is_row(line) and NO_DEVICES not in line]
    if has_gpus:  # beside the GPUs it may also write warnings that do not matter here
        words = [line for line in words if any(known in line for known in REMEDIES)]
    if not words:
        return ""
    return "".join(letter for letter in words[0] if letter.isprintable())[:QUOTED]


def _memory_problem(name: str, memory: str) -> str:
    """The sentence for a GPU whose memory has no figure."""
    if name.startswith("["):  # not even its name can be read
        return say("nvidia-smi says of the memory of a GPU: {memory}", memory=memory)
    return say("nvidia-smi says of the memory of {name}: {memory}", name=name, memory=memory)


def _remedy(words: str) -> str:
    """The next step after nvidia-smi has complained in these words."""
    for known, remedy in REMEDIES.items():
        if known in words:
            return say(remedy)
    return say(OTHER_REMEDY)


def read_slices(row: dict[str, str], seconds: float = SECONDS) -> list[Gpu]:
    """The slices of GPUs in MIG mode, as nvidia-smi -L lists them; their free memory is not known.

    `row`: one such GPU, as `read_gpus` asks for it.
    """
    whole = _gpu(row)
    try:
        text = ask(["-L"], seconds).text
    except OSError:
        text = ""
    slices = []
    for size, uuid in re.findall(r"MIG (?:\d+c\.)?\d+g\.(\d+)gb.*?UUID: (MIG-[^)\s]+)", text):
        memory = int(MIG_SHARE * int(size) * GIB)
        name = say("{name}, slice of {size} GB", name=whole.name, size=size)
        slices.append(Gpu(name, memory, whole.capability, uuid=uuid))
    return slices
