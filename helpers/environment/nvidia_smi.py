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

from helpers import GIB
from helpers.environment.visible_devices import VARIABLE, visible_devices

MIB = 2**20
SECONDS = 10.0  # a healthy nvidia-smi answers in less than two
FIELDS = ("driver_version", "memory.total", "memory.free", "compute_cap", "mig.mode.current", "uuid", "name")
MIG_SHARE = 0.95  # a slice called "20gb" has 95 to 98 % of 20 GiB

RESTART = "restart the machine (on AutoDL: shut the instance down and start it again)"
SHARED_MEMORY = "a GPU that shares the RAM has none of its own; torch.cuda.mem_get_info() tells what is free"
NOT_SHOWN = ("[N/A]", "[Not Supported]", "N/A")
#: What nvidia-smi says when it fails -> what to do. The first that occurs in its answer counts.
REMEDIES = {
    "ended by signal": f"nvidia-smi crashes: {RESTART}; if that does not help, take another host",
    "libnvidia-ml": "the driver's library is missing here: start with GPUs, or take an image that has it",
    "version mismatch": f"the driver was replaced while it was running: {RESTART}",
    "not a valid field": "this driver is too old for the course: take a host with driver 525.60.13 or newer",
    "is lost": f"a card has dropped out: {RESTART}; if it stays away, take another host",
    "fallen off the bus": f"a card has dropped out: {RESTART}; if it stays away, take another host",
    "device handle": f"a card does not answer: {RESTART}; if it stays away, take another host",
    "communicate with the NVIDIA driver": f"the driver is not running: {RESTART}, or take another host",
    "Driver Not Loaded": f"the driver is not running: {RESTART}, or take another host",
    "Permission": "this user may not use the GPUs: ask whoever runs this machine",
    "blocked by the operating system": "this system blocks the GPU: restart it, or update its driver",
    "[N/A]": SHARED_MEMORY,
    "[Not Supported]": SHARED_MEMORY,
}
OTHER_REMEDY = f"run nvidia-smi in a terminal; {RESTART}; if that does not help, take another host"
NO_NVIDIA_SMI = "none (no nvidia-smi)"
NO_DEVICES = "No devices were found"
NONE_LISTED = "nvidia-smi lists none"


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


def ask(arguments: list[str], seconds: float = SECONDS) -> str:
    """Run nvidia-smi and return all it says, whether it succeeds or not; a line in () if it fails silently.

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
            raise TimeoutError(f"nvidia-smi gave no answer in {seconds:g} s") from None
        answer.seek(0)
        text = answer.read()
    if process.returncode < 0:
        return f"{text}\n(it was ended by signal {-process.returncode})"
    if process.returncode and not text.strip():
        return f"(nothing, and its exit status is {process.returncode})"
    return text


def read_gpus(seconds: float = SECONDS, root: str = "/") -> GpuReport:
    """The GPUs that a program on this machine can use. `root`: of the file system, replaced by tests."""
    query = [f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        text = ask(query, seconds)
    except FileNotFoundError:
        return _without_nvidia_smi(root)
    except TimeoutError as error:
        return GpuReport(problem=str(error), remedy=f"the driver hangs: {RESTART}")
    except OSError as error:
        return GpuReport(problem=f"nvidia-smi cannot be started: {error.strerror}", remedy=OTHER_REMEDY)
    rows = _rows(text)
    gpus = [_gpu(row) for row in rows if _works(row) and not _is_sliced(row)]
    problem = _problem(text, rows)
    remedy = _remedy(problem)
    if not rows and not problem:
        problem = NONE_LISTED
    sliced = [row for row in rows if _is_sliced(row)]
    if sliced:
        if not gpus or os.environ.get(VARIABLE, "").startswith("MIG-"):
            gpus = read_slices(sliced[0], seconds)
        problem = f"MIG mode: a program can use at most one slice of {sliced[0]['name']}"
        remedy = "ask whoever runs this machine to switch it off: nvidia-smi -mig 0"
    report = only_visible(GpuReport(gpus=tuple(gpus), problem=problem, remedy=remedy))
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
        return replace(report, problem=visible.problem, remedy=f"correct {VARIABLE}, or unset it")
    if gpus and not shown:
        return replace(report, problem=f"none: {VARIABLE} hides {len(hidden)}", remedy="")
    return report


def _without_nvidia_smi(root: str) -> GpuReport:
    """No nvidia-smi: then there is no GPU, unless the kernel has an NVIDIA driver."""
    if not Path(root, "proc/driver/nvidia/version").exists():
        return GpuReport(problem=NO_NVIDIA_SMI)
    return GpuReport(
        problem="there is an NVIDIA driver, but no nvidia-smi on the PATH",
        remedy="add its folder to PATH, or take an image that has it",
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


def _problem(text: str, rows: list[dict[str, str]]) -> str:
    """What nvidia-smi complains about, in its own words; "" if it does not, or only finds no GPU."""
    for row in rows:
        memory = row["memory.total"]
        if not memory.isdigit():
            name = row["name"]
            if name.startswith("["):  # not even its name can be read
                name = "a GPU"
            return f"nvidia-smi says of the memory of {name}: {memory}"
    lines = [line.strip() for line in text.splitlines()]
    complaints = [line for line in lines if line and not _is_row(line) and NO_DEVICES not in line]
    if rows:  # beside the GPUs it may also write warnings that do not matter here
        complaints = [line for line in complaints if any(known in line for known in REMEDIES)]
    if not complaints:
        return ""
    sentence = "".join(letter for letter in complaints[0] if letter.isprintable())
    return f"nvidia-smi says: {sentence[:200]}"


def _remedy(problem: str) -> str:
    """The next step; "" where there is no problem."""
    if not problem:
        return ""
    for known, remedy in REMEDIES.items():
        if known in problem:
            return remedy
    return OTHER_REMEDY


def read_slices(row: dict[str, str], seconds: float = SECONDS) -> list[Gpu]:
    """The slices of GPUs in MIG mode, as nvidia-smi -L lists them; their free memory is not known.

    `row`: one such GPU, as `read_gpus` asks for it.
    """
    whole = _gpu(row)
    try:
        text = ask(["-L"], seconds)
    except OSError:
        text = ""
    slices = []
    for size, uuid in re.findall(r"MIG (?:\d+c\.)?\d+g\.(\d+)gb.*?UUID: (MIG-[^)\s]+)", text):
        memory = int(MIG_SHARE * int(size) * GIB)
        slices.append(Gpu(f"{whole.name}, slice of {size} GB", memory, whole.capability, uuid=uuid))
    return slices
