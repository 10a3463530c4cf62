"""What a machine can do with a model: the one rule behind check, forecast and loader. Standard library only.

How it is called:

    from helpers.environment import REAL_MODEL, decide, read_memory
    capacity = decide(REAL_MODEL, read_memory())
    print(capacity.sentence)

- the environment check (`checks.py`) describes the memory of a machine and calls `decide(size, memory)`;
- the forecast (`helpers.vram`) passes the cards that it was asked for, and a planner that asks transformers:
  `decide(size, memory, real_planner(make_model))`, where `make_model(dtype)` is a model on meta;
- the loader (`helpers.inference`) passes `read_memory()` (or the free bytes that torch reports), and the
  same planner; it loads if `capacity.loads`, with `from_pretrained(folder, **capacity.options)`. For
  `Kind.DISK` it adds an `offload_folder` after the learner has agreed.

All three show `capacity.sentence`. Sizes are bytes; GiB = 2^30 bytes, GB = 10^9 bytes.

The rule. First: what does device_map="auto" do without further arguments? If all weights go to the GPUs and
every GPU keeps `CARD_RESERVE`, that is the answer. Else the planner is asked again with the reserves taken
off (`max_memory`). A GPU that does not compute in bf16 gets float32, twice the bytes (in float16 Qwen models
overflow); such GPUs are used only if they hold everything.
"""

import enum
from dataclasses import dataclass, replace

from helpers import GB, GIB
from helpers.environment.model_size import DTYPE_BYTES, ModelSize
from helpers.environment.planner import Planner, arithmetic_planner

#: What CUDA itself takes of each GPU as soon as a process uses it (estimate: context and kernels).
CUDA_CONTEXT = GIB // 2
#: What stays free on each GPU beside the weights: loading needs up to 0.65 GiB more, and a short chat some.
CARD_RESERVE = GIB
#: What torch and transformers themselves need of the RAM while they load.
PROCESS_RAM = 3 * GIB // 4
RAM_SHARE = 0.9  # of the free RAM; transformers plans no more by itself either
DISK_MARGIN = 2 * GB  # stays free on the disk that takes offloaded weights

# Bytes per second, for the least time a token takes. Assumptions; your machine may differ by a factor of two.
GPU_BANDWIDTH = 936e9  # memory of an RTX 3090, NVIDIA's data sheet
PCIE_BANDWIDTH = 20e9  # from RAM to a GPU: PCIe 4.0 x16 has 32 GB/s on paper
RAM_BANDWIDTH = 20e9  # two channels DDR4-2666 have 43 GB/s on paper; about half is reached
DISK_BANDWIDTH = 1e9  # 0.7 to 1.6 GB/s when 12.6 GiB of this model were offloaded to a rented machine's disk


class Kind(enum.Enum):
    """What a machine can do with a model, from the best answer to the worst."""

    GPUS = "all on GPUs"
    GPUS_AND_RAM = "GPUs and RAM, slow"
    RAM = "RAM only, slow"
    DISK = "disk, very slow"
    HELD = "other processes hold the GPUs"
    NO = "no"

    @property
    def rank(self) -> int:
        """0 for the best answer."""
        return list(Kind).index(self)


@dataclass(frozen=True)
class Card:
    """A usable GPU. `free`: bytes that a process can have after CUDA has taken `CUDA_CONTEXT`."""

    name: str
    total: int
    free: int
    bf16: bool = True  # computes in bf16: compute capability 8.0 or newer


@dataclass(frozen=True)
class Memory:
    """Memory of a machine: usable GPUs in the order in which CUDA counts them, free RAM, free disk."""

    cards: tuple[Card, ...] = ()
    ram: int = 0
    disk: int = 0  # where offloaded weights would go
    holders: str = ""  # who holds GPU memory, as `gpu_holders` says it; "" if nobody does


@dataclass(frozen=True)
class Capacity:
    """The answer: what the machine does with the model, and how to load it."""

    kind: Kind
    sentence: str
    dtype: str  # "bfloat16" or "float32"
    on_gpus: tuple[int, ...] = ()  # bytes of weights on each GPU
    in_ram: int = 0
    on_disk: int = 0
    seconds: float = 0.0  # a token takes at least so long, by the bandwidths above
    max_memory: dict[int | str, int] | None = None  # None: device_map="auto" alone does the same
    keep: tuple[int, ...] = ()  # GPUs to keep, if hiding the others makes the answer better

    @property
    def loads(self) -> bool:
        """Whether the model can be loaded without asking the learner first."""
        return self.kind in (Kind.GPUS, Kind.GPUS_AND_RAM, Kind.RAM)

    @property
    def options(self) -> dict:
        """Arguments for from_pretrained: device_map, dtype and, where it is needed, max_memory."""
        device_map = "cpu" if self.kind is Kind.RAM else "auto"
        options = {"device_map": device_map, "dtype": self.dtype}
        if self.max_memory:
            options["max_memory"] = self.max_memory
        return options


def decide(size: ModelSize, memory: Memory, planner: Planner | None = None) -> Capacity:
    """What a machine with this memory can do with a model of this size; see the top of this module.

    `planner`: default is `arithmetic_planner(size)`.
    """
    planner = planner or arithmetic_planner(size)
    found = _decide(size, memory, planner)
    if memory.holders:
        emptied = tuple(
            replace(card, free=max(card.free, card.total - CUDA_CONTEXT)) for card in memory.cards
        )
        freed = _decide(size, replace(memory, cards=emptied), planner)
        if freed.kind.rank < found.kind.rank:
            sentence = f"{memory.holders} Without that, the answer is: {freed.sentence}"
            return replace(found, kind=Kind.HELD, sentence=sentence)
    return found


def ram_that_counts(size: ModelSize, ram: int) -> int:
    """Bytes of free RAM that may hold weights: 90 %, and less where that leaves too little for loading."""
    passing = PROCESS_RAM + 2 * DTYPE_BYTES["bfloat16"] * size.largest_block
    return max(0, int(min(RAM_SHARE * ram, ram - min(passing, ram))))


def card_reserve(size: ModelSize, card: Card, alone: bool) -> int:
    """Bytes of a GPU that stay free; transformers leaves a tenth of a single GPU alone."""
    reserve = min(CARD_RESERVE, DTYPE_BYTES["bfloat16"] * size.total)
    if alone:
        reserve = max(reserve, card.free // 10)
    return reserve


def _decide(size: ModelSize, memory: Memory, planner: Planner) -> Capacity:
    bf16 = all(card.bf16 for card in memory.cards)
    dtype = "float32"
    if bf16:
        dtype = "bfloat16"
    tried = []
    if memory.cards:
        tried = [_plan(size, memory, planner, dtype, explicit) for explicit in (False, True)]
    for capacity in tried:
        if capacity.kind is Kind.GPUS:
            return capacity
    if tried and bf16 and tried[-1].kind is Kind.GPUS_AND_RAM:
        return tried[-1]
    in_ram = DTYPE_BYTES["bfloat16"] * size.total
    counts = ram_that_counts(size, memory.ram)
    if in_ram <= counts:
        seconds = DTYPE_BYTES["bfloat16"] * size.active / RAM_BANDWIDTH
        sentence = (
            f"The model fits in RAM only and runs slowly: {in_ram / GIB:.1f} GiB in bfloat16, "
            f"{counts / GIB:.1f} of the {memory.ram / GIB:.1f} GiB of free RAM count, "
            f"at least {seconds:.2f} s per token."
        )
        return Capacity(Kind.RAM, sentence, "bfloat16", in_ram=in_ram, seconds=seconds)
    if not tried or not bf16:
        tried.append(_plan(size, replace(memory, cards=()), planner, "bfloat16", True))
    return tried[-1]


def _plan(size: ModelSize, memory: Memory, planner: Planner, dtype: str, explicit: bool) -> Capacity:
    """The planner's answer, with the reserves taken off the memory first (`explicit`) or not."""
    alone = len(memory.cards) == 1
    reserves = [card_reserve(size, card, alone) for card in memory.cards]
    room: dict[int | str, int] = {gpu: card.free for gpu, card in enumerate(memory.cards)}
    room["cpu"] = memory.ram
    if explicit:
        for gpu, reserve in enumerate(reserves):
            room[gpu] = max(0, room[gpu] - reserve)
        room["cpu"] = ram_that_counts(size, memory.ram)
    placed = planner(dtype, room, explicit)
    max_memory = None
    if explicit:
        max_memory = room
    on_gpus = tuple(placed[gpu] for gpu in range(len(memory.cards)))
    left = [card.free - used for card, used in zip(memory.cards, on_gpus, strict=True)]
    kept = all(free >= reserve for free, reserve in zip(left, reserves, strict=True))
    capacity = Capacity(
        kind=_kind(placed, on_gpus, kept, memory.disk),
        sentence="",
        dtype=dtype,
        on_gpus=on_gpus,
        in_ram=placed["cpu"],
        on_disk=placed["disk"],
        seconds=_seconds(size, dtype, on_gpus, placed["cpu"], placed["disk"]),
        max_memory=max_memory,
    )
    return replace(capacity, sentence=_sentence(size, memory, capacity))


def _kind(placed: dict, on_gpus: tuple[int, ...], kept: bool, disk: int) -> Kind:
    if placed["disk"]:
        return Kind.DISK if placed["disk"] + DISK_MARGIN <= disk else Kind.NO
    if placed["cpu"]:
        return Kind.GPUS_AND_RAM if any(on_gpus) else Kind.RAM
    return Kind.GPUS if kept else Kind.NO


def _seconds(size: ModelSize, dtype: str, on_gpus: tuple[int, ...], in_ram: int, on_disk: int) -> float:
    """Least time of one token. What a GPU computes but does not hold is copied to it whole, every time."""
    total = DTYPE_BYTES[dtype] * size.total
    active = size.active / size.total  # of the weights that stay in place, a token reads this share
    seconds = active * sum(on_gpus) / GPU_BANDWIDTH + on_disk / DISK_BANDWIDTH
    if any(on_gpus):
        return seconds + (total - sum(on_gpus)) / PCIE_BANDWIDTH
    return seconds + active * in_ram / RAM_BANDWIDTH


def _sentence(size: ModelSize, memory: Memory, capacity: Capacity) -> str:
    total = DTYPE_BYTES[capacity.dtype] * size.total
    what = f"{total / GIB:.1f} GiB in {capacity.dtype}"
    gpus = " + ".join(f"{used / GIB:.1f}" for used in capacity.on_gpus) or "0.0"
    slow = f"at least {capacity.seconds:.2f} s per token"
    if capacity.kind is Kind.GPUS:
        return f"The model fits on the GPUs: {what}, {gpus} GiB."
    if capacity.kind is Kind.GPUS_AND_RAM:
        return (
            f"The model fits only with RAM and runs slowly: {what}, {gpus} GiB on the GPUs, "
            f"{capacity.in_ram / GIB:.1f} GiB in RAM, {slow}."
        )
    if capacity.kind is Kind.DISK:
        return (
            f"The model fits only with the disk and runs very slowly: {what}, {gpus} GiB on the GPUs, "
            f"{capacity.in_ram / GIB:.1f} GiB in RAM, {capacity.on_disk / GIB:.1f} GiB on disk, {slow}."
        )
    free = " + ".join(f"{card.free / GIB:.1f}" for card in memory.cards) or "0.0"
    return (
        f"The model does not fit: {what}, but free are {free} GiB on the GPUs, "
        f"{memory.ram / GIB:.1f} GiB of RAM "
        f"and {memory.disk / GB:.1f} GB of disk; take a larger machine, or set COURSE_MODEL=embedded."
    )
