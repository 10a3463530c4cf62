"""What a machine can do with a model: the one rule behind check, forecast and loader. Standard library only.

How it is called:

    from helpers.environment import REAL_MODEL, decide, read_memory
    capacity = decide(REAL_MODEL, read_memory())
    print(capacity.sentence)

- The environment check (`checks.py`) describes the memory of a machine and calls `decide(size, memory)`.
- The forecast (`helpers.vram`) passes the cards that it was asked for, `ram=None` (as much as it takes), and
  a planner that asks transformers: `decide(size, memory, real_planner(make_model))`, where
  `make_model(dtype)` returns the model on PyTorch's meta device.
- The loader (`helpers.inference`) passes `read_memory()` and the same kind of planner. It loads if
  `capacity.loads`, with `from_pretrained(folder, **capacity.options)`. For `Kind.DISK` it asks the learner
  first and adds an `offload_folder`. Every other answer is a refusal, and `capacity.sentence` is its text.

All three show `capacity.sentence`. Sizes are bytes; GiB = 2^30 bytes, GB = 10^9 bytes.

The rule. First: what does device_map="auto" do without further arguments? If all weights go to the GPUs and
every GPU keeps `CARD_RESERVE`, that is the answer. Else the planner is asked again with the reserves taken
off (`max_memory`). A GPU that does not compute in bf16 gets float32, twice the bytes (in float16 Qwen models
overflow); such GPUs are used only if they hold everything, because in RAM bf16 is half the size. Where other
processes hold the GPUs, the answer is to end them, not to load slowly; where a weak GPU stands in the way,
the sentence says how to hide it.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace

from helpers import GB, GIB
from helpers.environment import wording
from helpers.environment.model_size import DTYPE_BYTES, ModelSize
from helpers.environment.planner import Planner, arithmetic_planner
from helpers.language import say
from helpers.terminal import figures_of, in_a_row

#: What CUDA itself takes of each GPU as soon as a process uses it (estimate: context and kernels).
CUDA_CONTEXT = GIB // 2
#: What stays free on each GPU beside the weights: loading needs up to 0.65 GiB more, and a short chat some.
CARD_RESERVE = GIB
ALONE_RESERVE = 0.1  # at least this share of a single GPU: transformers plans only the rest
#: What torch and transformers themselves need of the RAM while they load; two of the largest blocks come on
#: top. Measured: 16.9 GiB at the peak where the planner had 14 GiB for this model.
PROCESS_RAM = 3 * GIB // 4
RAM_SHARE = 0.9  # of the free RAM; transformers plans no more by itself either
DISK_MARGIN = 2 * GB  # stays free on the disk that takes offloaded weights
UNLIMITED = 2**60  # bytes; stands for RAM that was not asked about

# Bytes per second, for the time that a token takes. Yours may differ by a factor of two.
GPU_BANDWIDTH = 936e9  # memory of an RTX 3090, from NVIDIA's data sheet: a lower bound of the time
PCIE_BANDWIDTH = 20e9  # from RAM to a GPU; an assumption: PCIe 4.0 x16 has 32 GB/s on paper
RAM_BANDWIDTH = 9e9  # measured on 2 cores: 6.8 tokens/s with 4 of the 24 layers of this model
DISK_BANDWIDTH = 1e9  # measured: 0.7 to 1.6 GB/s with 12.6 GiB of this model on disk

READING = 0.1  # seconds per token; slower than that is called slow
WORTH_HIDING = 0.75  # hiding a GPU is advised if a token then takes at most this share of the time


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
    visible_as: str = ""  # its name in CUDA_VISIBLE_DEVICES; "": its number


@dataclass(frozen=True)
class Memory:
    """Memory of a machine: usable GPUs in the order in which CUDA counts them, RAM, disk; in bytes."""

    cards: tuple[Card, ...] = ()
    ram: int | None = 0  # free; None: as much as it takes
    disk: int = 0  # free where offloaded weights would go
    holders: str = ""  # who holds GPU memory, as `gpu_holders` says it; "" if nobody does


@dataclass(frozen=True)
class Capacity:
    """The answer: what the machine does with the model, and how to load it. Sizes in bytes of weights."""

    kind: Kind
    sentence: str
    dtype: str  # "bfloat16" or "float32"
    on_gpus: tuple[int, ...] = ()
    in_ram: int = 0
    on_disk: int = 0
    seconds: float = 0.0  # per token, by the bandwidths above
    max_memory: dict[int | str, int] | None = None  # None: device_map="auto" alone does the same
    keep: tuple[int, ...] = ()  # the GPUs to show CUDA, in this order, if that makes the answer better
    then: "Capacity | None" = None  # the answer once the sentence's advice is followed; None: it has none

    @property
    def loads(self) -> bool:
        """Whether the model can be loaded without asking the learner first."""
        return self.kind in (Kind.GPUS, Kind.GPUS_AND_RAM, Kind.RAM)

    @property
    def slow(self) -> bool:
        """Whether a token takes longer than reading it; with copies from RAM to a GPU it always may."""
        return self.kind in (Kind.GPUS_AND_RAM, Kind.DISK) or self.seconds > READING

    @property
    def tells_of_slowness(self) -> bool:
        """Whether the sentence speaks of a way to run the model that is slow."""
        if self.kind in (Kind.GPUS_AND_RAM, Kind.RAM, Kind.DISK) and self.slow:
            return True
        return self.then is not None and self.then.tells_of_slowness

    @property
    def options(self) -> dict:
        """Arguments for from_pretrained: device_map, dtype and, where it is needed, max_memory."""
        options = {"device_map": "auto", "dtype": self.dtype}
        if self.kind is Kind.RAM:
            options["device_map"] = "cpu"
        if self.max_memory:
            options["max_memory"] = self.max_memory
        return options


def decide(size: ModelSize, memory: Memory, planner: Planner | None = None) -> Capacity:
    """What a machine with this memory can do with a model of this size; see the top of this module.

    `planner`: default is `arithmetic_planner(size)`.
    """
    planner = planner or arithmetic_planner(size)
    capacity = place(size, memory, planner)
    if memory.holders:
        emptied = tuple(replace(card, free=card.total - CUDA_CONTEXT) for card in memory.cards)
        freed = place(size, replace(memory, cards=emptied), planner)
        advice = say("{holders} Then: {sentence}", holders=memory.holders, sentence=freed.sentence)
        if freed.kind.rank < capacity.kind.rank:
            return replace(capacity, kind=Kind.HELD, sentence=advice, then=freed)
        if _is_better(freed, capacity):
            return replace(capacity, sentence=in_a_row(capacity.sentence, advice), then=freed)
    return _with_hiding(size, memory, planner, capacity)


def ram_that_counts(size: ModelSize, ram: int | None) -> int:
    """Bytes of free RAM that may hold weights: 90 %, and less where that leaves too little for loading."""
    if ram is None:
        return UNLIMITED
    total = DTYPE_BYTES["bfloat16"] * size.total
    passing = PROCESS_RAM + 2 * DTYPE_BYTES["bfloat16"] * size.largest_block
    reserve = max((1 - RAM_SHARE) * ram, min(passing, total))
    return max(0, int(ram - reserve))


def card_reserve(size: ModelSize, card: Card, alone: bool) -> int:
    """Bytes of a GPU that stay free beside the weights: no small model needs more than its own size again."""
    reserve = min(CARD_RESERVE, DTYPE_BYTES["bfloat16"] * size.total)
    if alone:
        reserve = max(reserve, int(ALONE_RESERVE * card.free))
    return reserve


def place(size: ModelSize, memory: Memory, planner: Planner) -> Capacity:
    """The rule itself: GPUs, else GPUs and RAM, else RAM, else the disk."""
    bf16 = all(card.bf16 for card in memory.cards)
    if memory.cards:
        dtype = "float32"
        if bf16:
            dtype = "bfloat16"
        for explicit in (False, True):
            on_cards = _plan(size, memory, planner, dtype, explicit)
            if on_cards.kind is Kind.GPUS:
                return on_cards
        if bf16 and on_cards.kind is Kind.GPUS_AND_RAM:
            return on_cards
    in_ram = DTYPE_BYTES["bfloat16"] * size.total
    if in_ram <= ram_that_counts(size, memory.ram):
        seconds = DTYPE_BYTES["bfloat16"] * size.active / RAM_BANDWIDTH
        found = Capacity(Kind.RAM, "", "bfloat16", in_ram=in_ram, seconds=seconds)
        return replace(found, sentence=_sentence(size, memory, found))
    if memory.cards and bf16:
        return on_cards
    found = _plan(size, replace(memory, cards=()), planner, "bfloat16", explicit=True)
    return replace(found, sentence=in_a_row(found.sentence, _why_no_gpu(size, memory)))


def _plan(size: ModelSize, memory: Memory, planner: Planner, dtype: str, explicit: bool) -> Capacity:
    """The planner's answer, with the reserves taken off the memory first (`explicit`) or not."""
    room = _room(size, memory, explicit)
    placed = planner(dtype, room, explicit)
    on_gpus = tuple(placed[gpu] for gpu in range(len(memory.cards)))
    found = Capacity(
        kind=_kind(size, memory, placed),
        sentence="",  # it is written below, from the other fields
        dtype=dtype,
        on_gpus=on_gpus,
        in_ram=placed["cpu"],
        on_disk=placed["disk"],
        seconds=_seconds(size, dtype, on_gpus, placed["cpu"], placed["disk"]),
    )
    if explicit:
        found = replace(found, max_memory=room)
    return replace(found, sentence=_sentence(size, memory, found))


def _room(size: ModelSize, memory: Memory, explicit: bool) -> dict[int | str, int]:
    """Memory for the planner: what is free, or (`explicit`) what of it may hold weights."""
    alone = len(memory.cards) == 1
    room: dict[int | str, int] = {}
    for gpu, card in enumerate(memory.cards):
        room[gpu] = card.free
        if explicit:
            room[gpu] = max(0, card.free - card_reserve(size, card, alone))
    room["cpu"] = ram_that_counts(size, memory.ram)
    if not explicit and memory.ram is not None:
        room["cpu"] = memory.ram
    return room


def _kind(size: ModelSize, memory: Memory, placed: dict[int | str, int]) -> Kind:
    """What kind of answer a placement is; NO if the disk or a GPU's reserve does not suffice."""
    if placed["disk"]:
        if placed["disk"] + DISK_MARGIN > memory.disk:
            return Kind.NO
        return Kind.DISK
    if placed["cpu"]:
        if any(placed[gpu] for gpu in range(len(memory.cards))):
            return Kind.GPUS_AND_RAM
        return Kind.RAM
    alone = len(memory.cards) == 1
    for gpu, card in enumerate(memory.cards):
        needed = placed[gpu] + card_reserve(size, card, alone)
        if placed[gpu] and needed > card.free:  # a card without weights needs no reserve
            return Kind.NO
    return Kind.GPUS


def _seconds(size: ModelSize, dtype: str, on_gpus: tuple[int, ...], in_ram: int, on_disk: int) -> float:
    """Time of one token. What a GPU computes but does not hold is copied to it whole, every time."""
    active = size.active / size.total  # of the weights that stay in place, a token reads this share
    seconds = active * sum(on_gpus) / GPU_BANDWIDTH + on_disk / DISK_BANDWIDTH
    if any(on_gpus):
        return seconds + (in_ram + on_disk) / PCIE_BANDWIDTH
    return seconds + active * in_ram / RAM_BANDWIDTH


def _with_hiding(size: ModelSize, memory: Memory, planner: Planner, capacity: Capacity) -> Capacity:
    """Add how to hide the weakest GPUs, or to count them in another order, if that makes it better."""
    best = capacity
    for keep in _choices_of_cards(memory.cards):
        fewer = replace(memory, cards=tuple(memory.cards[gpu] for gpu in keep))
        found = place(size, fewer, planner)
        if _is_better(found, best):
            best = replace(found, keep=keep)
    if best is capacity:
        return capacity
    names = [memory.cards[gpu].visible_as or str(gpu) for gpu in best.keep]
    weak = [card.name for gpu, card in enumerate(memory.cards) if gpu not in best.keep]
    advice = wording.hide(weak, names, best.sentence)
    return replace(capacity, keep=best.keep, sentence=in_a_row(capacity.sentence, advice), then=best)


def _choices_of_cards(cards: tuple[Card, ...]) -> Iterator[tuple[int, ...]]:
    """Which GPUs to show CUDA, and in which order: first without the weakest ones, then the largest last.

    "auto" gives every GPU but the last at most an equal share, so a large one does most at the end.
    """
    from_weak = sorted(range(len(cards)), key=lambda gpu: (cards[gpu].bf16, cards[gpu].free))
    kept = [tuple(from_weak[dropped:]) for dropped in range(len(cards))]
    for choice in kept[1:]:
        yield tuple(sorted(choice))
    yield from kept


def _is_better(found: Capacity, than: Capacity) -> bool:
    """Whether an answer is of a better kind, or slow too but clearly faster; two refusals are equal."""
    if found.kind.rank != than.kind.rank:
        return found.kind.rank < than.kind.rank
    return found.kind not in (Kind.GPUS, Kind.NO) and found.seconds < WORTH_HIDING * than.seconds


def _sentence(size: ModelSize, memory: Memory, found: Capacity) -> str:
    """The one sentence; of every memory it names how much is free and how much of that counts."""
    total = DTYPE_BYTES[found.dtype] * size.total
    weights = wording.weights(total, found.dtype)
    in_ram = wording.in_ram(found.in_ram, total, ram_that_counts(size, memory.ram), memory.ram)
    if found.kind is Kind.RAM:
        return in_a_row(_works_in_ram(found, figures_of([weights, in_ram])), _why_no_gpu(size, memory))
    room = _room(size, memory, explicit=True)
    counts = [room[gpu] for gpu in range(len(memory.cards))]
    on_gpus = wording.on_gpus(found.on_gpus, total, counts, [card.free for card in memory.cards])
    if found.kind is Kind.GPUS:
        return _works_on_gpus(found, figures_of([weights, on_gpus]))
    places = [on_gpus, in_ram]
    if _is_share_too_small(size, found, counts):
        places.insert(1, say('"auto" gives no GPU but the last more than its share'))
    return _needs_more_than_gpus(memory, found, weights, figures_of(places))


def _works_in_ram(found: Capacity, figures: str) -> str:
    """The sentence for RAM alone."""
    seconds = wording.digits(found.seconds)
    if found.slow:
        return say(
            "It works in RAM only, slowly (about {seconds} s per token): {figures}.",
            seconds=seconds,
            figures=figures,
        )
    return say(
        "It works in RAM only, quickly (about {seconds} s per token): {figures}.",
        seconds=seconds,
        figures=figures,
    )


def _works_on_gpus(found: Capacity, figures: str) -> str:
    """The sentence for GPUs that hold everything."""
    sentence = say("All weights fit on the GPUs: {figures}.", figures=figures)
    if not found.max_memory:
        return sentence
    further = say('device_map="auto" needs max_memory for it: alone it fills a GPU too far.')
    return in_a_row(sentence, further)


def _needs_more_than_gpus(memory: Memory, found: Capacity, weights: str, places: str) -> str:
    """The sentence for GPUs and RAM, for the disk, and for a model that does not fit."""
    figures = {"weights": weights, "places": places, "seconds": wording.digits(found.seconds)}
    on_disk = found.on_disk / GIB
    if found.kind is Kind.GPUS_AND_RAM:
        return say(
            "It works with RAM beside the GPUs, slowly (about {seconds} s per token): {weights}; {places}.",
            **figures,
        )
    if found.kind is Kind.DISK:
        return say(
            "It works only with the disk, very slowly (about {seconds} s per token): {weights}; {places}, "
            "{on_disk:.1f} GiB on disk. from_pretrained needs an offload_folder for that.",
            **figures,
            on_disk=on_disk,
        )
    return say(
        "The model does not fit: {weights}; {places}; for the other {on_disk:.1f} GiB it would take "
        "{disk_needed:.1f} GB of disk, and {disk_free:.1f} GB are free. Take a larger machine, or set "
        "COURSE_MODEL=embedded.",
        **figures,
        on_disk=on_disk,
        disk_needed=(found.on_disk + DISK_MARGIN) / GB,
        disk_free=memory.disk / GB,
    )


def _why_no_gpu(size: ModelSize, memory: Memory) -> str:
    """Why the GPUs of a machine do not help; "" if it has none."""
    if not memory.cards:
        return ""
    if all(card.bf16 for card in memory.cards):
        return say("Too little of the GPUs is free for a part of it.")
    in_float32 = DTYPE_BYTES["float32"] * size.total
    return say(
        "GPUs without bfloat16 would have to hold {size} in float32.",
        size=wording.amount([in_float32], in_float32),
    )


def _is_share_too_small(size: ModelSize, found: Capacity, counts: list[int]) -> bool:
    """Whether a GPU holds less than it could, although not all weights are on the GPUs."""
    room_for_two = 2 * DTYPE_BYTES[found.dtype] * size.largest_block
    before_the_last = list(zip(found.on_gpus, counts, strict=False))[:-1]
    return any(count - used > room_for_two for used, count in before_the_last)
