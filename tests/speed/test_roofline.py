"""The bytes of the roofline against real parameters, and its formulas against counting."""

import itertools

import pytest
import torch
import transformers

from helpers import GB, CourseError
from helpers.speed import CARDS, WeightBytes, expected_experts, read_bandwidth, roofline, weight_bytes

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
}
QWEN = {"num_experts": 6, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}


def on_meta(config, dtype=torch.bfloat16):
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)


def bytes_of(model, *parts):
    """Bytes of the parameters that have one of these parts in their names."""
    named = model.named_parameters()
    return sum(weight.nbytes for name, weight in named if any(part in name for part in parts))


def test_the_real_model_to_the_byte():
    found = weight_bytes(on_meta(transformers.Qwen2MoeConfig()))
    assert found.total == 28_631_568_384
    assert found.expert == 3 * 2048 * 1408 * 2
    assert (found.layers, found.experts, found.chosen) == (24, 60, 4)
    assert found.embedding == 151936 * 2048 * 2
    # Activated parameters of a token, without the embedding: known from its configuration.
    assert found.per_token() == pytest.approx((2_689_173_504 - 151936 * 2048) * 2)


def test_the_embedded_model_to_the_byte(toy):
    model, _ = toy
    found = weight_bytes(model)
    routed = bytes_of(model, ".experts.")
    assert found.layers * found.experts * found.expert == routed
    assert found.rest == bytes_of(model, "self_attn", "norm", "mlp.gate.", "shared_expert", "lm_head")
    assert found.total == sum(weight.nbytes for weight in model.parameters())


@pytest.mark.parametrize("dtype, size", [(torch.bfloat16, 2), (torch.float32, 4)])
def test_the_number_format_counts(dtype, size):
    model = on_meta(transformers.Qwen2MoeConfig(**SMALL, **QWEN), dtype)
    assert weight_bytes(model).expert == 3 * 16 * 8 * size


def test_dense_layers_between_the_others_belong_to_the_rest():
    model = on_meta(transformers.Qwen2MoeConfig(**SMALL, **QWEN, mlp_only_layers=[1]))
    found = weight_bytes(model)
    assert found.layers == 2
    assert found.total == sum(weight.nbytes for weight in model.parameters())


def test_mixtral_counts_its_experts_under_another_name():
    config = transformers.MixtralConfig(**SMALL, num_local_experts=5)
    found = weight_bytes(on_meta(config))
    assert (found.layers, found.experts, found.chosen) == (3, 5, 2)
    assert found.expert == 3 * 16 * 24 * 2


def test_a_dense_model_reads_everything_for_every_batch():
    sizes = {name: value for name, value in SMALL.items() if "experts" not in name}
    model = on_meta(transformers.Qwen2Config(**sizes))
    found = weight_bytes(model)
    assert found.layers == 0
    assert found.per_step(1) == found.per_step(8) == found.total - found.embedding
    assert found.per_token(8) == found.rest / 8


def test_an_embedding_that_is_the_output_layer_is_read_whole():
    tied = weight_bytes(on_meta(transformers.Qwen2MoeConfig(**SMALL, **QWEN, tie_word_embeddings=True)))
    apart = weight_bytes(on_meta(transformers.Qwen2MoeConfig(**SMALL, **QWEN)))
    assert tied.embedding == 0
    assert tied.rest == apart.rest
    assert tied.total == apart.total - apart.embedding


def test_experts_of_two_sizes_are_refused():
    model = on_meta(transformers.Qwen2MoeConfig(**SMALL, **QWEN))
    experts = model.model.layers[1].mlp.experts
    experts.down_proj = torch.nn.Parameter(torch.empty(6, 16, 4, device="meta", dtype=torch.bfloat16))
    with pytest.raises(CourseError, match="2 kinds of experts"):
        weight_bytes(model)


def counted_experts(experts, chosen, batch):
    """The mean over all ways in which `batch` tokens can choose."""
    choices = list(itertools.combinations(range(experts), chosen))
    numbers = [len(set().union(*tokens)) for tokens in itertools.product(choices, repeat=batch)]
    return sum(numbers) / len(numbers)


@pytest.mark.parametrize("experts, chosen, batch", [(4, 2, 1), (4, 2, 2), (5, 2, 3), (4, 1, 4), (3, 3, 2)])
def test_expected_experts_against_all_possible_choices(experts, chosen, batch):
    expected = expected_experts(experts, chosen, batch)
    assert expected == pytest.approx(counted_experts(experts, chosen, batch))


def test_the_formula():
    found = WeightBytes(rest=1000, embedding=77, layers=3, experts=8, expert=10, chosen=2)
    assert found.total == 1000 + 77 + 3 * 8 * 10
    assert found.per_token(1) == 1000 + 3 * 2 * 10
    assert found.per_token(2) == (1000 + 3 * 8 * (1 - 0.75**2) * 10) / 2
    assert found.limit(bandwidth=2120, batch=1) == 2


def test_a_batch_of_none_is_refused():
    with pytest.raises(CourseError, match="batch is 0"):
        WeightBytes(rest=1, embedding=0, layers=0, experts=0, expert=0, chosen=0).per_token(0)


@pytest.mark.parametrize(
    "experts, chosen, batch, words",
    [(60, 4, -1, "batch is -1"), (4, 60, 1, "cannot use 60 of 4"), (0, 0, 1, "cannot use 0 of 0")],
)
def test_experts_that_no_layer_has_are_refused(experts, chosen, batch, words):
    with pytest.raises(CourseError, match=words):
        expected_experts(experts, chosen, batch)


def test_the_cards_are_in_order_and_say_their_source():
    bandwidths = [card.bandwidth for card in CARDS]
    assert bandwidths == sorted(bandwidths)
    assert CARDS[0].bandwidth == 384 * 19.5e9 / 8
    assert all(900 * GB < card.bandwidth < 5000 * GB for card in CARDS)
    assert all("NVIDIA" in card.source for card in CARDS)


def test_bandwidth_is_one_that_a_memory_can_have():
    measured = read_bandwidth(size=2**24, repeats=2)
    assert 0.05 * GB < measured < 10_000 * GB


@pytest.mark.parametrize(
    "options, words",
    [
        ({"device": "gpu"}, "PyTorch knows no device gpu"),
        ({"device": "cuda:99"}, r"CUDA GPUs here, so there is no cuda:99"),
        ({"size": 0}, "size is 0"),
        ({"repeats": 0}, "repeats is 0"),
    ],
)
def test_a_bandwidth_that_cannot_be_measured_is_refused(options, words):
    with pytest.raises(CourseError, match=words):
        read_bandwidth(**options)


def test_a_tiny_buffer_is_not_read_for_minutes(monkeypatch):
    monkeypatch.setattr(roofline, "MOST_READS", 3)
    assert read_bandwidth(size=1, repeats=1) > 0
