"""Where device_map="auto" puts a model: accelerate's planner itself, or the same arithmetic without it.

Before the installation there is no planner to ask, so `plan_by_arithmetic` repeats, on sizes alone, what
transformers 5.23 does (`integrations/accelerate.py`: `get_balanced_memory`, `infer_auto_device_map`). A test
compares the two on random machines. Afterwards `real_planner` asks the planner.

A *planner* here is a function `(dtype, memory, explicit) -> {device: bytes}`. `memory` maps "0", "1" ... as
int to free bytes of a GPU and "cpu" to free bytes of RAM; what fits nowhere goes to "disk". `explicit` says
whether the memory is passed as `max_memory`: without it, transformers plans only 90 % of a single GPU and of
the RAM.
"""

from collections.abc import Callable
from dataclasses import dataclass

from helpers import compat
from helpers.environment.model_size import DTYPE_BYTES, ModelSize

Device = int | str
Planner = Callable[[str, dict[Device, int], bool], dict[Device, int]]

UNPLANNED = 0.1  # share of a single GPU, and of the RAM, that transformers leaves alone without max_memory
BUFFER = 1.25  # a balanced GPU gets its share and this many of the largest blocks


@dataclass(frozen=True)
class _Block:
    """A module as the planner sees it: its bytes, and the parts into which it may be split."""

    name: str
    size: int
    parts: tuple["_Block", ...] = ()


def arithmetic_planner(size: ModelSize) -> Planner:
    """The planner as arithmetic on the sizes of a model."""

    def plan(dtype: str, memory: dict[Device, int], explicit: bool) -> dict[Device, int]:
        return _fill(_blocks(size, DTYPE_BYTES[dtype]), _balanced(size, dtype, memory, explicit))

    return plan


def real_planner(make_model: Callable[[str], object]) -> Planner:
    """transformers' own planner; `make_model(dtype)` returns the model on PyTorch's meta device."""
    models = {}

    def plan(dtype: str, memory: dict[Device, int], explicit: bool) -> dict[Device, int]:
        if dtype not in models:
            models[dtype] = make_model(dtype)
        model = models[dtype]
        placed = dict.fromkeys([*memory, "disk"], 0)
        counted = set()
        for module, device in compat.auto_device_map(model, memory, explicit).items():
            for parameter in model.get_submodule(module).parameters():
                if id(parameter) not in counted:  # shared parameters count once
                    counted.add(id(parameter))
                    placed[device] += parameter.nbytes
        return placed

    return plan


def _blocks(size: ModelSize, width: int) -> list[_Block]:
    """The tree of modules of a decoder; `width`: bytes of one parameter."""
    layers = tuple(_Block(f"layer {n}", width * count) for n, count in enumerate(size.layers))
    embedding = _Block("embedding", width * size.embedding)
    stack = _Block("layers", width * sum(size.layers), layers)
    norm = _Block("norm", width * size.norm)
    body = (embedding, stack, norm)
    return [_Block("model", sum(part.size for part in body), body), _Block("head", width * size.head)]


def _balanced(size: ModelSize, dtype: str, memory: dict[Device, int], explicit: bool) -> dict[Device, float]:
    """What each device may get: GPUs about equal shares, the last one all that it has."""
    room: dict[Device, float] = dict(memory)
    gpus = [device for device, free in memory.items() if device != "cpu" and free > 0]
    if not explicit:
        room["cpu"] = (1 - UNPLANNED) * room["cpu"]
        if len(gpus) == 1:
            room[0] *= 1 - UNPLANNED  # of GPU 0, even where another one is the one with memory
    if gpus:
        width = DTYPE_BYTES[dtype]
        share = width * size.total // len(gpus) + int(BUFFER * width * size.largest_block)
        for gpu in gpus[:-1]:
            room[gpu] = min(share, room[gpu])
    return room


def _leaves(blocks: list[_Block]) -> list[_Block]:
    found = []
    for block in blocks:
        found += _leaves(list(block.parts)) or [block]
    return found


def _fill(waiting: list[_Block], room: dict[Device, float]) -> dict[Device, int]:
    """Fill one device after the other, in the order of the model; a block that does not fit is split."""
    devices = [*(device for device in room if device != "cpu"), "cpu", "disk"]
    room = {**room, "disk": float("inf")}
    keeping = {devices[0], "cpu"}  # these keep room for the largest block, which may have to visit them
    used = dict.fromkeys(devices, 0)
    device = devices.pop(0)
    largest = _largest(waiting)
    while waiting:
        block = waiting.pop(0)
        leaves = _leaves([block])
        largest = [leaf for leaf in largest if leaf not in leaves]
        if not largest:
            largest = _largest(waiting)
        kept = 0
        if device in keeping and largest:
            kept = largest[0].size
        if used[device] + block.size <= room[device] - kept:
            used[device] += block.size
        elif block.parts:
            waiting = [*block.parts, *waiting]
            largest = _largest(waiting)
        else:
            waiting = [block, *waiting]
            device = devices.pop(0)
    return used


def _largest(waiting: list[_Block]) -> list[_Block]:
    """The largest blocks that are not placed yet."""
    leaves = _leaves(waiting)
    size = max((leaf.size for leaf in leaves), default=0)
    return [leaf for leaf in leaves if leaf.size == size]


def installed_planner() -> Planner | None:
    """transformers' planner for the real model; None where it is not installed or cannot be imported."""
    try:
        import torch  # imported late: heavy, and missing before the installation
        from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM
    except Exception:  # a broken install fails in many ways
        return None

    def make_model(dtype: str) -> Qwen2MoeForCausalLM:
        # The sizes of the real model are the class's default ones.
        with torch.device("meta"):
            return Qwen2MoeForCausalLM(Qwen2MoeConfig(dtype=dtype)).to(getattr(torch, dtype))

    return real_planner(make_model)
