"""Loading: what the loaded model is, what is printed, and what transformers cannot read."""

import pytest
import torch

from helpers import CourseError
from helpers.inference import load


def test_load_is_bf16_in_evaluation_mode_and_says_where(folder, capsys):
    model, tokenizer = load(folder)
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert model.generation_config.top_k == 20
    assert tokenizer.chat_template
    output, noise = capsys.readouterr()
    assert output.count("\n") == 2
    assert "sdpa" in output
    assert not noise


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.json", "{"), ("config.json", '{"model_type": "unheard_of"}'), ("tokenizer.json", "{")],
)
def test_what_transformers_cannot_read_is_one_sentence(copy, name, text):
    (copy / name).write_text(text)
    with pytest.raises(CourseError, match="cannot load copy") as error:
        load(copy)
    assert "\n" not in str(error.value)


def test_a_damaged_shard_is_one_sentence(copy):
    shard = copy / "model-00001-of-00003.safetensors"
    shard.write_bytes(b"\xff" * shard.stat().st_size)
    with pytest.raises(CourseError, match="cannot load copy"):
        load(copy)
