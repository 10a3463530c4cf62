"""Where the weights go, on described machines: the shared rule's answer, in the words that everybody gets."""

import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers import EMBEDDED_MODEL, GB, GIB, CourseError, compat
from helpers.environment import (
    REAL_MODEL,
    Card,
    Kind,
    Memory,
    arithmetic_planner,
    decide,
    real_planner,
)
from helpers.inference import check_placement, load, placement
from helpers.inference.meta_model import meta_model, size_of
from helpers.inference.placement import SMALL_MODEL, decide_placement

ROOT = Path(__file__).parents[2]
REAL_CONFIG = ROOT / "helpers" / "vram" / "qwen1.5-moe-a2.7b-chat.config.json"
REAL_WEIGHTS = 28_632_144_944  # bytes of the eight shards of Qwen1.5-MoE-A2.7B-Chat


def described(gpus=(), ram=60.0, disk=100.0, bf16=True, holders="") -> Memory:
    """A machine of cards with 24 GiB, of which so many GiB are free; GiB of RAM, GB of disk."""
    cards = [Card("NVIDIA GeForce RTX 3090", 24 * GIB, int(free * GIB), bf16) for free in gpus]
    return Memory(tuple(cards), int(ram * GIB), int(disk * GB), holders)


def place_real(memory: Memory, disk_folder: Path | None = None):
    """The answer for the real model."""
    return decide_placement(REAL_MODEL, memory, arithmetic_planner(REAL_MODEL), REAL_WEIGHTS, disk_folder)


@pytest.mark.parametrize(
    ("machine", "memory", "kind", "dtype", "bare"),
    [
        ("two RTX 3090 and a full card", described((23.3, 0.2, 23.3)), Kind.GPUS, "bfloat16", None),
        ("two RTX 3090", described((23.3, 23.3)), Kind.GPUS, "bfloat16", True),
        ("two RTX 3090, little RAM", described((23.3, 23.3), ram=4), Kind.GPUS, "bfloat16", True),
        ("four 12 GB cards", described((11.6,) * 4), Kind.GPUS, "bfloat16", True),
        ("one 80 GB card", described((79,)), Kind.GPUS, "bfloat16", True),
        ("one 48 GB card, little RAM", described((47.5,), ram=8), Kind.GPUS, "bfloat16", True),
        ("three uneven cards", described((15, 8, 23)), Kind.GPUS, "bfloat16", False),
        ("four 32 GB V100", described((31.5,) * 4, bf16=False), Kind.GPUS, "float32", False),
        ("two 32 GB V100", described((31.5,) * 2, bf16=False), Kind.GPUS, "float32", False),
        ("one RTX 3090, much RAM", described((23.3,)), Kind.GPUS_AND_RAM, "bfloat16", True),
        ("two cards of 12 GB", described((11.6, 11.6)), Kind.GPUS_AND_RAM, "bfloat16", False),
        ("four cards with 7.5 GiB", described((7.5,) * 4), Kind.GPUS_AND_RAM, "bfloat16", False),
        ("a good card and an old one", described((23.3, 4)), Kind.GPUS_AND_RAM, "bfloat16", False),
        ("no GPU, 64 GB RAM", described(), Kind.RAM, "bfloat16", True),
        ("no GPU, just enough RAM", described(ram=30), Kind.RAM, "bfloat16", None),
        ("two 16 GB V100", described((15.7, 15.7), bf16=False), Kind.RAM, "bfloat16", False),
    ],
)
def test_where_the_real_model_goes(machine, memory, kind, dtype, bare):
    found = place_real(memory)
    assert found.capacity.kind is kind
    assert found.sentence == decide(REAL_MODEL, memory).sentence
    assert found.options["dtype"] == dtype
    assert (found.options["device_map"] == "cpu") == (kind is Kind.RAM)
    if bare is not None:
        assert found.bare_call_agrees == bare


@pytest.mark.parametrize(
    ("machine", "memory", "kind"),
    [
        ("a laptop", described(ram=12), Kind.DISK),
        ("a laptop with a full disk", described(ram=12, disk=15), Kind.NO),
        ("one RTX 3090, little RAM", described((23.3,), ram=4), Kind.DISK),
        ("two 16 GB V100, little RAM", described((15.7, 15.7), ram=16, bf16=False), Kind.DISK),
        ("two 3090, both taken", described((0.2, 0.2), ram=60, holders="Process 7 holds."), Kind.HELD),
        ("two 3090, one taken", described((23.3, 0.2), ram=60, holders="Process 7 holds."), Kind.HELD),
        ("two 3090, both taken, no RAM", described((0, 0), ram=4, holders="Process 7 holds."), Kind.HELD),
    ],
)
def test_where_the_real_model_does_not_go_unasked(machine, memory, kind):
    expected = decide(REAL_MODEL, memory)
    assert expected.kind is kind
    with pytest.raises(CourseError) as error:
        place_real(memory)
    sentence = str(error.value)
    assert sentence.startswith(expected.sentence)
    assert sentence.endswith(".")
    assert ("offload_folder" in sentence) == (kind is Kind.DISK)
    assert ("Process 7" in sentence) == (kind is Kind.HELD)


def test_the_disk_is_used_if_a_folder_is_named(tmp_path):
    found = place_real(described((23.3,), ram=4), tmp_path / "offload")
    assert found.capacity.kind is Kind.DISK
    assert found.options["offload_folder"] == str(tmp_path / "offload")
    assert "very slowly" in found.sentence
    with pytest.raises(CourseError, match="does not fit"):
        place_real(described((23.3,), ram=4, disk=5), tmp_path / "offload")


@pytest.mark.parametrize("gpus", [(), (0.2, 0.2), (5,), (23.3, 23.3)])
@pytest.mark.parametrize("ram", [0.1, 0.7, 60])
def test_the_toy_goes_everywhere(gpus, ram):
    model = meta_model(EMBEDDED_MODEL, "bfloat16")
    size = size_of("toy", model)
    found = decide_placement(
        size, described(gpus, ram=ram), real_planner(lambda dtype: model), weights=4_000_000
    )
    assert found.capacity.loads
    assert found.bare_call_agrees
    assert found.sentence.startswith("Weights: 0.00 GiB in bfloat16, loaded ")


# The planner is that of transformers: what is announced is what from_pretrained does.


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory) -> Path:
    """A folder with the config of the real model and nothing else."""
    folder = tmp_path_factory.mktemp("models") / "Qwen1.5-MoE-A2.7B-Chat"
    folder.mkdir()
    shutil.copy(REAL_CONFIG, folder / "config.json")
    return folder


@pytest.fixture(scope="module")
def real_model(real_folder):
    """The real model without weights."""
    return meta_model(real_folder, "bfloat16")


def test_the_size_of_the_real_model_is_that_of_the_environment_check(real_model):
    size = size_of(REAL_MODEL.name, real_model)
    assert size == REAL_MODEL


@pytest.mark.parametrize("seed", range(20))
def test_what_is_announced_is_what_the_planner_does(real_model, seed):
    generator = random.Random(seed)
    gpus = [generator.choice([0.2, 4, 7.5, 11.6, 15, 23.3, 31]) for _ in range(generator.randint(0, 5))]
    memory = described(gpus, ram=generator.choice([4, 16, 30, 60]))
    planner = real_planner(lambda dtype: real_model)
    found = decide_placement(REAL_MODEL, memory, planner, REAL_WEIGHTS, disk_folder=Path("offload"))
    if found.options["device_map"] == "cpu":
        return  # no planner takes part
    room = found.options.get("max_memory")
    explicit = room is not None
    if not explicit:
        room = {**{gpu: card.free for gpu, card in enumerate(memory.cards)}, "cpu": memory.ram}
    placed = dict.fromkeys([*range(len(gpus)), "cpu", "disk"], 0)
    for module, device in compat.auto_device_map(real_model, room, explicit).items():
        placed[device] += sum(weight.nbytes for weight in real_model.get_submodule(module).parameters())
    assert list(placed.values()) == placement.capacity_placement(found.capacity, memory)


# What load and check_placement say.


@pytest.fixture
def on_machine(monkeypatch):
    """Returns a function that lets this process see another memory, and a complete real model."""
    monkeypatch.setattr(placement, "weights_bytes", lambda _: REAL_WEIGHTS)
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it was loaded")
    )

    def see(memory: Memory) -> None:
        monkeypatch.setattr(placement, "read_memory", lambda disk_folder: memory)

    return see


@pytest.mark.parametrize(
    "memory",
    [
        described(ram=12),
        described(ram=12, disk=1),
        described((23.3,), ram=4),
        described((0.2, 0.2), holders="GPU memory is held by process 4711 (python3, 9 MiB)."),
    ],
)
def test_load_and_check_placement_refuse_with_the_same_sentence(real_folder, on_machine, memory):
    on_machine(memory)
    with pytest.raises(CourseError) as from_load:
        load(real_folder)
    with pytest.raises(CourseError) as from_check:
        check_placement(real_folder)
    assert str(from_load.value) == str(from_check.value)
    assert decide(REAL_MODEL, memory).sentence in str(from_load.value)


def test_check_placement_says_what_the_next_cell_will_do(real_folder, on_machine, capsys):
    memory = described((23.3, 23.3))
    on_machine(memory)
    check_placement(real_folder)
    assert capsys.readouterr().out.startswith(decide(REAL_MODEL, memory).sentence)


@pytest.mark.parametrize("memory", [described((11.6, 11.6)), described((31.5, 31.5), bf16=False)])
def test_check_placement_refuses_where_the_next_cell_would_do_something_else(real_folder, on_machine, memory):
    on_machine(memory)
    with pytest.raises(CourseError, match=r"load\(model_dir\)"):
        check_placement(real_folder)


def test_a_model_in_ram_and_on_disk_answers_like_one_in_ram(folder, loaded, tmp_path, monkeypatch, capsys):
    size = size_of("tiny", meta_model(folder, "bfloat16"))
    monkeypatch.setattr(placement, "SMALL_MODEL", 0)
    for_half = size.total + 4 * size.largest_block
    ram = 2 * size.total + for_half  # the rule leaves as much as the model has for loading it
    monkeypatch.setattr(placement, "read_memory", lambda _: Memory(ram=ram, disk=100 * GB))
    with pytest.raises(CourseError, match="offload_folder"):
        load(folder)
    model, tokenizer = load(folder, offload_folder=tmp_path / "offload")
    assert "very slowly" in capsys.readouterr().out
    assert set(model.hf_device_map.values()) == {"cpu", "disk"}
    inputs = tokenizer("hello", return_tensors="pt")
    options = {"max_new_tokens": 8, "do_sample": False}
    assert torch.equal(model.generate(**inputs, **options), loaded[0].generate(**inputs, **options))


def test_a_mac_is_told_where_auto_goes(monkeypatch, capsys):
    check_placement(EMBEDDED_MODEL)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check_placement(EMBEDDED_MODEL)
    elsewhere, on_a_mac = capsys.readouterr().out.splitlines()
    assert "mps" not in elsewhere
    assert "mps" in on_a_mac


def test_the_embedded_model_is_small():
    assert sum(path.stat().st_size for path in EMBEDDED_MODEL.glob("*.safetensors")) < SMALL_MODEL
