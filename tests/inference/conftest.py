"""A tiny model with random weights for these tests: they test the code and not what a model learned."""

import shutil
from pathlib import Path

import pytest
import torch
from inference_samples import TEMPLATE, WORDS
from transformers import GenerationConfig, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen2Tokenizer

from helpers.inference import load


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A model folder in the layout of the real one: byte-level BPE tokenizer, ChatML, several shards."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    texts = [
        "".join(WORDS),
        "Give me a short introduction to large language model.",
        "system user assistant\n\n  \n",
    ]
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(texts * 4, vocab_size=420, show_progress=False)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=32,
        num_experts=8,
        num_experts_per_tok=4,
        max_position_embeddings=600,
    )
    model = Qwen2MoeForCausalLM(config).to(torch.bfloat16)
    end_of_turn, end_of_text = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        repetition_penalty=1.05,
        eos_token_id=[end_of_turn, end_of_text],
        pad_token_id=end_of_text,
        bos_token_id=end_of_text,
    )
    model.save_pretrained(path, max_shard_size="100KB")
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def loaded(folder):
    """The tiny model and its tokenizer."""
    return load(folder)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A copy of the model folder that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No settings and no record of the person who runs the tests."""
    monkeypatch.delenv("COURSE_MODEL", raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
