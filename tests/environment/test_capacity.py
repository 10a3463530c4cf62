"""What a machine can do with a model: the rule on described machines, and on random ones."""

import random
import re
from dataclasses import replace

import pytest
from test_planner import meta_model

from helpers import EMBEDDED_MODEL, GB, GIB
from helpers.environment import (
    REAL_MODEL,
    Card,
    Kind,
    Memory,
    arithmetic_planner,
    decide,
    real_planner,
    size_of_folder,
)
from helpers.environment.capacity import CARD_RESERVE, CUDA_CONTEXT, WORTH_HIDING

BYTES = 28_631_568_384  # of the weights in bfloat16


def cards(*free, bf16=True, name="a card"):
    """Cards of which all but CUDA's own part is free: GiB of each."""
    return tuple(Card(name, int(size * GIB) + CUDA_CONTEXT, int(size * GIB), bf16) for size in free)


def memory(*free, ram=64.0, disk=100, bf16=True):
    return Memory(cards(*free, bf16=bf16), int(ram * GIB), disk * GB)


GT_1030 = cards(1.5, bf16=False, name="GT 1030")
T400 = cards(3.5, name="T400 4GB")

# Described machine -> the kind of answer.
MACHINES = {
    "2 x RTX 3090": (memory(23.3, 23.3), Kind.GPUS),
    "2 x RTX 3090, little RAM": (memory(23.3, 23.3, ram=6), Kind.GPUS),
    "A100 80 GB": (memory(79), Kind.GPUS),
    "RTX 5090": (memory(31.3), Kind.GPUS),
    "a single card of 28 GiB: auto leaves a tenth": (memory(28), Kind.GPUS_AND_RAM),
    "2 x 16 GB": (memory(15.5, 15.5), Kind.GPUS),
    "2 x 14 GiB": (memory(14, 14), Kind.GPUS_AND_RAM),
    "4 x 11 GiB": (memory(10.7, 10.7, 10.7, 10.7), Kind.GPUS),
    "four cards with 7.5 GiB free": (memory(7.5, 7.5, 7.5, 7.5), Kind.GPUS_AND_RAM),
    "23.3 + 4 GiB": (memory(23.3, 4), Kind.GPUS_AND_RAM),
    "4 + 23.3 GiB": (memory(4, 23.3), Kind.GPUS_AND_RAM),
    "6 + 23.3 GiB: the last card takes what is left": (memory(6, 23.3), Kind.GPUS),
    "one RTX 3090": (memory(23.3), Kind.GPUS_AND_RAM),
    "one RTX 3090, little RAM": (memory(23.3, ram=8), Kind.DISK),
    "one RTX 3090, little RAM, full disk": (memory(23.3, ram=8, disk=4), Kind.NO),
    "a full card beside two good ones": (memory(23.3, 23.3, 0.2), Kind.GPUS),
    "full cards between good ones": (memory(0.2, 31, 15, 0.2, 15), Kind.GPUS),
    "64 GiB of RAM": (memory(), Kind.RAM),
    "32 GiB of RAM": (memory(ram=31), Kind.RAM),
    "29 GiB of RAM: nine tenths are too little": (memory(ram=29), Kind.DISK),
    "16 GiB of RAM": (memory(ram=16), Kind.DISK),
    "16 GiB of RAM, full disk": (memory(ram=16, disk=5), Kind.NO),
    "2 x V100 16 GB": (memory(15.5, 15.5, bf16=False), Kind.RAM),
    "2 x V100 16 GB, little RAM": (memory(15.5, 15.5, bf16=False, ram=8), Kind.DISK),
    "2 x V100 32 GB": (memory(31.5, 31.5, bf16=False), Kind.GPUS),
    "4 x V100 16 GB: a layer in float32 is too large a piece": (
        memory(15.5, 15.5, 15.5, 15.5, bf16=False),
        Kind.RAM,
    ),
    "nothing": (Memory(), Kind.NO),
}


@pytest.mark.parametrize("name", MACHINES)
def test_kinds_of_answers(name):
    described, kind = MACHINES[name]
    assert decide(REAL_MODEL, described).kind is kind


@pytest.mark.parametrize("name", MACHINES)
def test_every_sentence_has_its_figures(name):
    described, _ = MACHINES[name]
    check_answer(described, decide(REAL_MODEL, described))


def check_answer(described, capacity):
    """What holds of every answer, whatever the machine."""
    width = {"bfloat16": 1, "float32": 2}[capacity.dtype]
    placed = sum(capacity.on_gpus) + capacity.in_ram + capacity.on_disk
    assert placed == width * BYTES
    assert f"{width * BYTES / GIB:.1f} GiB in {capacity.dtype}" in capacity.sentence
    if capacity.kind is Kind.GPUS:
        for card, used in zip(described.cards, capacity.on_gpus, strict=True):
            assert used == 0 or card.free - used >= CARD_RESERVE
    check_figures(capacity.sentence)
    if capacity.kind in (Kind.GPUS_AND_RAM, Kind.RAM, Kind.DISK):
        assert "per token" in capacity.sentence
        assert FIGURES.search(capacity.sentence)
    if capacity.kind is Kind.NO:
        assert "COURSE_MODEL=embedded" in capacity.sentence
    assert capacity.loads == (capacity.kind in (Kind.GPUS, Kind.GPUS_AND_RAM, Kind.RAM))


#: As in "19.7 GiB on the GPUs (21.0 of 23.3 GiB free count)".
FIGURES = re.compile(r"([\d. +]+) GiB (?:on|in) [\w ]+ \(([\d. +]+) of ([\d. +]+) GiB free count")


def check_figures(sentence):
    """What is used counts, and what counts is free: no figure contradicts another."""
    for match in FIGURES.findall(sentence):
        used, counts, free = [[float(size) for size in part.split("+")] for part in match]
        for small, middle, large in zip(used, counts, free, strict=True):
            assert small <= middle <= large, sentence


# --- against the planner, on random machines --------------------------------------------------------------


def random_memory(generator):
    """Up to five cards: large, small, tiny, full, old; RAM and disk from too little to plenty."""
    sizes = [
        generator.choice([0.2, 1.5, 4, 7.5, 11, 15.5, 23.3, 31, 47]) for _ in range(generator.randint(0, 5))
    ]
    free = [size * generator.uniform(0.7, 1) for size in sizes]
    bf16 = generator.random() < 0.85
    described = memory(*free, ram=generator.uniform(1, 80), disk=generator.randint(1, 60), bf16=bf16)
    if described.cards and generator.random() < 0.2:
        described = replace(described, cards=described.cards + GT_1030)
    return described


MACHINES_TRIED = 300


def test_both_planners_give_the_same_answer_on_random_machines():
    real = real_planner(meta_model)
    generator = random.Random(2024)
    kinds = set()
    for _ in range(MACHINES_TRIED):
        described = random_memory(generator)
        by_arithmetic = decide(REAL_MODEL, described)
        assert decide(REAL_MODEL, described, real) == by_arithmetic, described
        kinds.add(by_arithmetic.kind)
    assert kinds == {Kind.GPUS, Kind.GPUS_AND_RAM, Kind.RAM, Kind.DISK, Kind.NO}


def test_answers_on_random_machines_hold_together():
    planner = arithmetic_planner(REAL_MODEL)
    generator = random.Random(7)
    for _ in range(MACHINES_TRIED):
        described = random_memory(generator)
        capacity = decide(REAL_MODEL, described)
        check_answer(described, capacity)
        gpus = {gpu: card.free for gpu, card in enumerate(described.cards)}
        if capacity.kind is Kind.GPUS and capacity.max_memory is None:
            bare = planner(capacity.dtype, {**gpus, "cpu": described.ram}, False)
            assert tuple(bare[gpu] for gpu in gpus) == capacity.on_gpus
        if capacity.max_memory and capacity.on_gpus:
            asked = planner(capacity.dtype, capacity.max_memory, True)
            assert tuple(asked[gpu] for gpu in gpus) == capacity.on_gpus
            assert asked["disk"] == capacity.on_disk


def test_more_ram_is_never_worse():
    generator = random.Random(8)
    for _ in range(MACHINES_TRIED):
        described = random_memory(generator)
        more = replace(described, ram=described.ram + int(generator.uniform(0, 40) * GIB))
        assert decide(REAL_MODEL, more).kind.rank <= decide(REAL_MODEL, described).kind.rank


def test_hiding_helps_wherever_it_is_advised():
    generator = random.Random(9)
    advised = 0
    for _ in range(MACHINES_TRIED):
        described = random_memory(generator)
        capacity = decide(REAL_MODEL, described)
        if not capacity.keep:
            continue
        advised += 1
        hidden = replace(described, cards=tuple(described.cards[gpu] for gpu in capacity.keep))
        better = decide(REAL_MODEL, hidden)
        faster = better.kind is capacity.kind and better.seconds < WORTH_HIDING * capacity.seconds
        assert better.kind.rank < capacity.kind.rank or faster
        numbers = ",".join(str(gpu) for gpu in capacity.keep)
        assert f"export CUDA_VISIBLE_DEVICES={numbers} " in capacity.sentence
        assert better.sentence in capacity.sentence
    assert advised > 10


# --- single rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("weak", [GT_1030, T400])
def test_an_old_display_card_beside_two_good_ones(weak, place):
    good = cards(23.3, 23.3, name="RTX 3090")
    described = Memory(good[:place] + weak + good[place:], 64 * GIB, 100 * GB)
    capacity = decide(REAL_MODEL, described)
    if capacity.kind is Kind.GPUS:  # in front, a small card does no harm
        assert weak == T400
        return
    assert [described.cards[gpu].name for gpu in capacity.keep] == ["RTX 3090", "RTX 3090"]
    assert f"Better without {weak[0].name}" in capacity.sentence
    assert "Then: All weights fit on the GPUs" in capacity.sentence


@pytest.mark.parametrize(("free", "order"), [((23.3, 11), "1,0"), ((20, 9, 9), "1,2,0")])
def test_a_large_card_does_more_as_the_last_one(free, order):
    capacity = decide(REAL_MODEL, memory(*free))
    assert capacity.kind is Kind.GPUS_AND_RAM
    assert "gives no GPU but the last more than its share" in capacity.sentence
    assert f"Better with the GPUs in another order: export CUDA_VISIBLE_DEVICES={order} " in capacity.sentence
    better = memory(*[free[gpu] for gpu in capacity.keep])
    assert decide(REAL_MODEL, better).kind is Kind.GPUS


def test_a_card_is_named_as_cuda_names_it():
    good = [replace(card, visible_as=f"GPU-{n}") for n, card in enumerate(cards(23.3, 23.3))]
    described = Memory((*good, replace(GT_1030[0], visible_as="GPU-9")), 64 * GIB, 100 * GB)
    assert "export CUDA_VISIBLE_DEVICES=GPU-0,GPU-1 " in decide(REAL_MODEL, described).sentence


HOLDERS = "GPU memory is held by process 4711 (the kernel of 02_vram.ipynb, 17408 MiB). Shut it down."


@pytest.mark.parametrize("free", [(23.3, 6.0), (6.0, 6.0), (0.0, 0.0)])
@pytest.mark.parametrize("ram", [8, 64])
def test_a_held_gpu_is_to_be_freed_and_not_worked_around(free, ram):
    held = tuple(Card("RTX 3090", 24 * GIB, int(size * GIB)) for size in free)
    described = Memory(held, ram * GIB, 100 * GB, HOLDERS)
    capacity = decide(REAL_MODEL, described)
    assert capacity.kind is Kind.HELD
    assert not capacity.loads
    assert capacity.sentence.startswith(HOLDERS)
    assert "Then: All weights fit on the GPUs" in capacity.sentence
    assert decide(REAL_MODEL, replace(described, holders="")).kind is not Kind.HELD


def test_holders_that_make_no_difference_are_not_mentioned():
    described = Memory(tuple(Card("A100", 80 * GIB, 60 * GIB) for _ in range(2)), 64 * GIB, 0, HOLDERS)
    capacity = decide(REAL_MODEL, described)
    assert capacity.kind is Kind.GPUS
    assert "4711" not in capacity.sentence


def test_holders_that_only_make_it_slower_are_named():
    described = Memory((Card("RTX 3090", 24 * GIB, 10 * GIB),), 64 * GIB, 0, HOLDERS)
    capacity = decide(REAL_MODEL, described)
    assert capacity.kind is Kind.GPUS_AND_RAM
    assert HOLDERS in capacity.sentence


def test_ram_that_nobody_asked_about():
    capacity = decide(REAL_MODEL, Memory(cards(23.3), None))
    assert capacity.kind is Kind.GPUS_AND_RAM
    assert "GiB in RAM." in capacity.sentence
    assert decide(REAL_MODEL, Memory((), None)).kind is Kind.RAM


@pytest.mark.parametrize("ram", [1 / 8, 1, 16])
@pytest.mark.parametrize("free", [(), (0.5,), (23.3, 23.3)])
def test_the_embedded_model_fits_everywhere(ram, free):
    capacity = decide(size_of_folder(EMBEDDED_MODEL), memory(*free, ram=ram))
    assert capacity.kind is (Kind.GPUS if free else Kind.RAM)
    assert not capacity.slow
    assert "MB in bfloat16" in capacity.sentence


def test_options_for_from_pretrained():
    assert decide(REAL_MODEL, memory(23.3, 23.3)).options == {"device_map": "auto", "dtype": "bfloat16"}
    assert decide(REAL_MODEL, memory()).options == {"device_map": "cpu", "dtype": "bfloat16"}
    assert decide(REAL_MODEL, memory(31.5, 31.5, bf16=False)).options["dtype"] == "float32"
    tight = decide(REAL_MODEL, memory(23.3)).options["max_memory"]
    assert tight[0] < 23.3 * GIB
    assert tight["cpu"] < 64 * GIB


def test_seconds_are_bytes_over_bandwidth():
    capacity = decide(REAL_MODEL, memory(23.3))
    assert capacity.seconds == pytest.approx(capacity.in_ram / 20e9, rel=0.02)
    on_disk = decide(REAL_MODEL, memory(ram=16))
    assert on_disk.seconds > on_disk.on_disk / 1e9
    in_ram = decide(REAL_MODEL, memory())
    assert in_ram.seconds == pytest.approx(2 * (2_066_843_648 + 311_164_928) / 9e9)


@pytest.mark.parametrize("free", [(23.5, 3.5), (23.5, 11.5)])
def test_no_order_of_the_gpus_is_advised_that_does_not_help(free):
    capacity = decide(REAL_MODEL, memory(*free, ram=2, disk=0))
    assert capacity.kind is Kind.NO
    then = capacity.sentence.partition("Then: ")[2]
    assert "does not fit" not in then


def test_no_disk_answer_leaves_the_gpus_unmentioned():
    capacity = decide(REAL_MODEL, memory(15.5, 15.5, ram=16, bf16=False))
    assert capacity.kind is Kind.DISK
    assert "GPUs without bfloat16 would have to hold 53.3 GiB in float32" in capacity.sentence
