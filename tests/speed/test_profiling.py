"""The table of a profiled step: every part once, shares that add up, hooks that go away."""

import pytest
import torch
import transformers

from helpers.speed import profile_step
from helpers.speed.profiling import REST, outermost_parts

PARTS = {"attention", "router", "routed experts", "shared expert", "norms", "output layer", REST}


@pytest.fixture(scope="module")
def table(toy):
    model, tokenizer = toy
    return profile_step(model, tokenizer("What is a token?", return_tensors="pt"))


def test_every_part_is_there(table):
    assert set(table.index) == PARTS


def test_the_shares_are_those_of_one_step(table):
    assert table["share"].sum() == pytest.approx(1)
    assert (table["share"] > 0).all()
    assert table["ms"].is_monotonic_decreasing
    assert table["operations"]["output layer"] == 1
    assert (table["operations"] > 0).all()


def test_the_hooks_go_away(toy, table):
    model, _ = toy
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_part_inside_a_part_is_not_counted_twice():
    config = transformers.Qwen3MoeConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=8,
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    names = {path for path, module in model.named_modules() if module in outermost_parts(model)}
    assert "model.layers.0.self_attn" in names
    assert not any(path.startswith("model.layers.0.self_attn.") for path in names)
