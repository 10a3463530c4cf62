"""Where the weights of a model can go, decided from file sizes and free memory before anything is loaded."""

from typing import NamedTuple

from helpers import GIB, CourseError
from helpers.inference.memory import FreeMemory

RESERVE = GIB  # per GPU: loading needs up to 0.65 GiB above the weights, and an answer needs room too


class Placement(NamedTuple):
    """What `from_pretrained` is asked for, and why."""

    device_map: str  # "auto": GPUs, and RAM for what they cannot hold; "cpu": RAM only
    dtype: str  # name of a dtype of torch
    reason: str  # for the learner


def usable(free: int) -> float:
    """Bytes of a GPU's free memory that weights may take."""
    return max(0, free - max(free / 10, RESERVE))


def bytes_on_gpus(need: int, room: list[float]) -> float:
    """How many of `need` bytes fit on GPUs with this room each.

    As device_map="auto" does it: layers are spread evenly, so no GPU but the last gets more than its share.
    """
    if not room:
        return 0
    share = need / len(room)
    *others, last = room
    return sum(min(size, share) for size in others) + last


def place(weights: int, memory: FreeMemory) -> Placement:
    """Decide where `weights` bytes of bf16 parameters go.

    A tenth of each memory stays free. GPUs without bf16 get float32, twice the size: in float16 Qwen models
    overflow. CourseError when neither the GPUs nor the RAM can hold the model.
    """
    need = weights
    dtype = "bfloat16"
    if not memory.bf16:
        need = 2 * weights
        dtype = "float32"
    fits = bytes_on_gpus(need, [usable(free) for free in memory.gpus])
    size = f"{weights / GIB:.2f} GiB in bfloat16"
    if memory.gpus and fits >= need:
        return Placement("auto", dtype, f"{size}, loaded in {dtype} on {len(memory.gpus)} GPU(s)")
    if memory.bf16 and fits and need - fits <= 0.9 * memory.ram:
        where = f"{fits / GIB:.1f} GiB on the GPUs, the rest in RAM; it works, but slowly"
        return Placement("auto", dtype, f"{size}: {where}")
    if weights <= 0.9 * memory.ram:
        return Placement("cpu", "bfloat16", f"{size}, loaded on the CPU")
    free = [f"GPU {number} {size / GIB:.1f} GiB" for number, size in enumerate(memory.gpus)]
    raise CourseError(
        f"The model needs {need / GIB:.1f} GiB for {dtype} weights plus 1 GiB per GPU, but free are "
        f"{', '.join(free) or 'no GPU'}, RAM {memory.ram / GIB:.1f} GiB: "
        "free memory, take a larger machine, or set COURSE_MODEL=embedded."
    )
