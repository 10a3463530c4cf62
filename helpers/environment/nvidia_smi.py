"""The only place of the course that asks nvidia-smi: which GPUs there are, and who holds their memory.

nvidia-smi comes with the driver and fails in many ways. A hung driver can keep it in the kernel, where no
signal ends it: so it writes into a temporary file (a pipe would be waited for), it gets a time limit, and
after that nobody waits for it, not even to bury it.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from typing import NamedTuple

MIB = 2**20
SECONDS = 10.0  # a healthy nvidia-smi answers in less than two


@dataclass(frozen=True)
class Gpu:
    """One GPU: name, memory in bytes, compute capability such as 8.6; `free` bytes, None if not known."""

    name: str
    memory: int
    capability: float
    free: int | None = None
    uuid: str = ""


@dataclass(frozen=True)
class GpuReport:
    """What nvidia-smi says: the GPUs and the version of the driver, or the problem."""

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""


class Holder(NamedTuple):
    """A process that holds GPU memory; `used` as nvidia-smi writes it, such as "17408 MiB"."""

    pid: int
    name: str
    used: str


def ask(arguments: list[str], seconds: float = SECONDS) -> tuple[int, str]:
    """Run nvidia-smi and return its exit code and all it says.

    OSError if there is no nvidia-smi, TimeoutError if it has not answered after `seconds`.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as answer:
        process = subprocess.Popen(
            ["nvidia-smi", *arguments], stdin=subprocess.DEVNULL, stdout=answer, stderr=answer
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise TimeoutError(f"nvidia-smi gave no answer in {seconds:g} s") from None
        answer.seek(0)
        return code, answer.read()


def read_gpus(seconds: float = SECONDS) -> GpuReport:
    """The GPUs that nvidia-smi lists, in the order of their PCI addresses."""
    fields = "driver_version,memory.total,memory.free,compute_cap,uuid,name"
    query = [f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        _, text = ask(query, seconds)
    except OSError as error:
        problem = "none (no nvidia-smi)"
        if isinstance(error, TimeoutError):
            problem = str(error)
        return GpuReport(problem=problem)
    gpus = []
    driver = ""
    for line in text.splitlines():
        cells = line.split(", ", 5)
        if len(cells) != 6 or not cells[1].isdigit():
            continue
        driver, total, free, capability, uuid, name = cells
        gpus.append(Gpu(name, int(total) * MIB, float(capability), int(free) * MIB, uuid))
    if not gpus:
        return GpuReport(problem="nvidia-smi lists none")
    return GpuReport(tuple(gpus), driver)


def read_holders(seconds: float = SECONDS) -> list[Holder]:
    """The processes that hold GPU memory, as far as nvidia-smi shows them."""
    query = ["--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    try:
        _, text = ask(query, seconds)
    except OSError:
        return []
    holders = []
    for line in text.splitlines():
        cells = line.split(", ")
        if len(cells) == 3 and cells[0].isdigit():
            pid, name, used = cells
            holders.append(Holder(int(pid), name, used))
    return holders


def gpu_holders(seconds: float = SECONDS) -> str:
    """One sentence: which processes hold GPU memory, as far as nvidia-smi shows them."""
    descriptions = []
    for holder in read_holders(seconds):
        name = holder.name
        if holder.pid == os.getpid():
            name = "this one"
        descriptions.append(f"{holder.pid} ({name}, {holder.used})")
    who = "processes that nvidia-smi does not show in this container"
    if descriptions:
        who = f"process {', '.join(descriptions)}"
    return f"GPU memory is held by {who}."
