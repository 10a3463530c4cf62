"""The forecast by GPU: what lies where, loading, offloading, and the cards that hold the model."""

import re

import pytest
import torch
from accelerate.utils import infer_auto_device_map
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, modeling_utils
from transformers.integrations import accelerate as planner

from helpers import GB, GIB, compat, vram
from helpers.environment import CUDA_CONTEXT, REAL_MODEL, Card, Kind, Memory, decide

CONFIGS = {
    "real": vram.load_config("real"),
    "dense": LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32
    ),
    "tied": LlamaConfig(
        hidden_size=1024, num_hidden_layers=12, num_attention_heads=16, tie_word_embeddings=True
    ),
    "mixtral": MixtralConfig(
        hidden_size=1024, intermediate_size=3584, num_hidden_layers=8, num_local_experts=8
    ),
}
#: Memory of GPUs as shares of the model's size.
SHARES = ([0.8, 0.8], [1.2], [0.5, 0.5, 0.5], [0.3, 0.9], [0.5], [0.2, 0.2])


class StopError(Exception):
    """Raised to end from_pretrained."""


@pytest.fixture
def map_of_from_pretrained(tmp_path, monkeypatch):
    """A function (config, max_memory) -> the device map with which from_pretrained starts to load."""
    made = {}
    original = modeling_utils._get_device_map

    def record(*args):
        made["map"] = dict(original(*args))
        raise StopError

    def ask(config, max_memory):
        config.save_pretrained(tmp_path)
        index = '{"metadata": {}, "weight_map": {"x": "model.safetensors"}}'
        (tmp_path / "model.safetensors.index.json").write_text(index)
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(StopError):
            AutoModelForCausalLM.from_pretrained(
                tmp_path,
                device_map="auto",
                max_memory=dict(max_memory),
                dtype=torch.bfloat16,
                local_files_only=True,
            )
        return made["map"]

    monkeypatch.setattr(modeling_utils, "_get_device_map", record)
    return ask


@pytest.mark.parametrize("name", CONFIGS)
def test_device_map_is_the_one_that_from_pretrained_makes(name, map_of_from_pretrained):
    """from_pretrained runs until it has its map; accelerate's own planner agrees, given that budget."""
    config = CONFIGS[name]
    model = vram.meta_model(config)
    total = sum(parameter.nbytes for parameter in model.parameters())
    for shares in SHARES:
        max_memory = {gpu: int(share * total) for gpu, share in enumerate(shares)}
        max_memory["cpu"] = 10 * total
        ours = compat.auto_device_map(model, max_memory, explicit=True)
        assert ours == map_of_from_pretrained(config, max_memory), shares
        whole = model._no_split_modules
        budget = planner.get_balanced_memory(model, dict(max_memory), whole)
        assert ours == dict(infer_auto_device_map(model, budget, whole)), shares
        if sum(shares) < 1:
            assert "cpu" in ours.values()


def test_two_cards_get_twelve_layers_each(two_cards):
    placement = two_cards["placement"]
    for gpu in (0, 1):
        layers = [part for part, place in placement.items() if "layers" in part and place == gpu]
        assert len(layers) == 12
    rows = two_cards["gpus"]
    assert [round(row["weights"] / GIB, 3) for row in rows] == [13.333, 13.333]
    assert two_cards["fits"]
    assert sum(row["weights"] for row in rows) == 28_631_568_384
    assert sum(row["kv_cache"] for row in rows) == 196_608 * (2048 + 512 - 1)


def test_loading_needs_a_second_copy_of_one_fused_tensor(two_cards):
    for row in two_cards["gpus"]:
        assert row["loading"] - row["weights"] == 2 * 60 * 1408 * 2048 * 2


def above_weights(result: dict) -> int:
    """Bytes of the prefill above the weights of GPU 0."""
    row = result["gpus"][0]
    return row["prefill"] - row["weights"]


def test_offloaded_weights_visit_the_gpu_module_by_module():
    result = vram.forecast("real", ["24GiB"])
    in_ram = [part for part, place in result["placement"].items() if place == "cpu"]
    layers = [part for part in in_ram if "layers" in part]
    assert result["offloaded"] == 2 * (len(layers) * 570_560_512 + 311_164_928 + 2048)
    assert vram.seconds_to_move(result, bytes_per_second=result["offloaded"]) == 1
    # All routed experts of a layer are one module: it is in the GPU's memory while it computes.
    visiting = above_weights(result) - above_weights(vram.forecast("real", ["8000GiB"]))
    assert visiting == pytest.approx(60 * 3 * 1408 * 2048 * 2, rel=1e-3)


def test_verdicts(two_cards):
    request = {"model": "real", "gpus": ["24GiB"] * 2}
    assert re.match(r"It fits: \d+\.\d\d GiB stay free on GPU \d\.", vram.verdict(two_cards, **request))
    single = {"model": "real", "gpus": ["24GiB"]}
    assert vram.verdict(vram.forecast(**single), **single) == (
        "The GPUs lack 6.96 GiB for the weights: take 2 such GPUs. "
        "It works with RAM beside the GPUs, slowly (about 0.38 s per token): 26.7 GiB in bfloat16; "
        "19.7 GiB on the GPUs (21.2 of 23.5 GiB free count), 7.0 GiB in RAM."
    )


def test_cards_that_hold_the_model():
    found = vram.cards("real", prompt=2048)
    assert found.keys() == vram.CARDS.keys()
    assert found["V100 16 GB"] is None
    assert found["V100 32 GB"] == 2
    assert found["RTX 3090, RTX 4090, A10"] == 2
    assert found["H200"] == 1


@pytest.mark.parametrize(
    ("count", "size", "bf16"),
    [
        (2, 16 * GB, False),
        (2, 32 * GB, False),
        (1, 24 * GIB, True),
        (2, 24 * GIB, True),
        (4, 8 * GIB, True),
        (1, 32 * GB, True),
    ],
)
def test_forecast_and_environment_check_agree(count, size, bf16):
    """On whether the weights fit on these GPUs; the loader asks the same function."""
    cards = tuple(Card("GPU", total=size, free=size - CUDA_CONTEXT, bf16=bf16) for _ in range(count))
    answer = decide(REAL_MODEL, Memory(cards=cards, ram=None))
    dtype = "bfloat16"
    if not bf16:
        dtype = "float32"
    result = vram.forecast("real", [size] * count, dtype=dtype, prompt=256, new=64)
    assert result["fits"] == (answer.kind is Kind.GPUS)
    if answer.kind is Kind.GPUS:
        assert [row["weights"] for row in result["gpus"]] == list(answer.on_gpus)
