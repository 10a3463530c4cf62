"""Every type of model that the forecast knows, against the profiler."""

import pytest
import torch
from forecast_architectures import ARCHITECTURES, REQUESTS, config_of
from profiled_runs import build
from transformers import LlamaConfig, MistralConfig

from helpers.vram import configs, meta_model, simulate
from helpers.vram.forecasting import usable_attention
from helpers.vram.measuring import measured_peak

TOLERANCE = 0.01


def run(model, batch, prompt, new, padding=False, sampling=False, **generation) -> int:
    """Peak in bytes of a real generate()."""

    def generate():
        ids = torch.randint(10, 400, (batch, prompt))
        mask = torch.ones_like(ids)
        if padding:
            mask[0, : prompt // 3] = 0
        model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=sampling, **generation)

    return measured_peak(generate)


def compare(config, dtype, attention, **request) -> float:
    """Error of a forecast as a share of the measurement."""
    attention = usable_attention(config, attention)
    measured = run(build(config, dtype, attention, "grouped_mm", seed=0), **request)
    peaks = simulate(meta_model(config, dtype, attention), {"": 0}, on_cpu=True, **request)
    return max(peaks["prefill"][0], peaks["decode"][0]) / measured - 1


def test_every_known_type_has_a_case():
    assert {model_type for model_type, _ in ARCHITECTURES.values()} == set(configs.SUPPORTED)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_forecast_agrees_with_the_profiler(name):
    config = config_of(name)
    for request in REQUESTS:
        error = compare(config, **request)
        assert abs(error) <= TOLERANCE, (request, error)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_padded_batch_of_long_prompts(dtype):
    """PyTorch turns the mask of booleans into numbers; without that, half of the memory would be missing."""
    config = LlamaConfig(
        hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, vocab_size=1000
    )
    assert abs(compare(config, dtype, "sdpa", batch=2, prompt=900, new=1, padding=True)) <= TOLERANCE


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_prompt_far_beyond_the_window(dtype):
    config = MistralConfig(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1000,
        sliding_window=128,
    )
    assert abs(compare(config, dtype, "sdpa", batch=1, prompt=1200, new=4)) <= TOLERANCE


SAMPLERS = [
    {"repetition_penalty": 1.05},
    {"sampling": True, "temperature": 0.7},
    {"sampling": True, "top_k": 20},
    {"sampling": True, "top_k": 0, "top_p": 0.8},
    {"sampling": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05},
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_works_on_the_scores_of_a_large_vocabulary(sampler):
    config = LlamaConfig(
        hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, vocab_size=50_000
    )
    assert abs(compare(config, "bfloat16", "sdpa", batch=4, prompt=12, new=2, **sampler)) <= TOLERANCE
