"""flash_attention_2 without the package: transformers' own code around it, with the kernels replaced."""

import pytest
import torch
from profiled_runs import measure, predict, tiny
from transformers import LlamaConfig
from transformers import modeling_flash_attention_utils as flash_utils

from helpers import vram

CONFIGS = {
    "moe": tiny(vocab_size=500, moe_intermediate_size=8),
    "dense": LlamaConfig(
        hidden_size=128,
        intermediate_size=96,
        num_hidden_layers=1,
        vocab_size=500,
        num_attention_heads=4,
        num_key_value_heads=4,
    ),
}


def flash_attn_allocates(query, key, value, **options):
    """What a kernel of flash-attn leaves on the GPU: its output, one float32 number per query and head."""
    _sums = query.new_empty(*query.shape[:-1], dtype=torch.float32)
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def no_options(**options):
    """Which of the kernel's options are used: none."""
    return {}


@pytest.fixture
def kernels_of_flash_attn(monkeypatch):
    """Only the kernels, which need a GPU, are replaced: masks, unpadding, padding are transformers' own."""
    functions = [flash_attn_allocates, flash_attn_allocates, None, flash_utils._pad_input, None]
    imported = (functions, (no_options, None))
    monkeypatch.setattr(flash_utils, "lazy_import_flash_attention", lambda *_: imported)


@pytest.mark.parametrize("padding", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("new", [1, 6])
@pytest.mark.parametrize("kind", CONFIGS)
def test_flash_attention_2_through_the_code_of_transformers(kind, new, padding, kernels_of_flash_attn):
    case = {
        "config": CONFIGS[kind],
        "attention": "flash_attention_2",
        "dtype": "bfloat16",
        "experts": "grouped_mm",
        "batch": 8,
        "prompt": 120,
        "new": new,
        "padding": padding,
    }
    peak, _ = measure(**case)
    assert predict(**case) == pytest.approx(peak, rel=0.01)
    if padding and kind == "dense":
        # There the copies are the peak: the check would see it if they were missing.
        assert predict(**{**case, "padding": False}) < 0.95 * peak


def test_flash_attention_2_needs_no_package_and_no_mask():
    prefill = {}
    for attention in ("flash_attention_2", "sdpa"):
        result = vram.forecast("real", ["80GiB"], attention=attention, prompt=4096)
        prefill[attention] = result["gpus"][0]["prefill"]
    mask = 4096**2  # bytes; sdpa's model makes one
    assert 0 < prefill["sdpa"] - prefill["flash_attention_2"] <= 1.1 * mask
