"""Loading: what the loaded model is, what is printed, and what transformers cannot read."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers import CourseError
from helpers.inference import check_placement, load


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


@pytest.mark.parametrize("function", [load, check_placement])
@pytest.mark.parametrize("wrong", [None, 3])
def test_what_is_no_path_is_refused_in_one_sentence(function, wrong):
    with pytest.raises(CourseError, match=f"model_dir is {wrong}: give the folder of a model"):
        function(wrong)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "unheard_of"}'),
        ("config.json", '{"model_type": "qwen2_moe", "hidden_size": "many"}'),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
    ],
)
def test_what_transformers_cannot_read_is_one_sentence_before_the_weights(copy, name, text, monkeypatch):
    (copy / name).write_text(text)
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("the weights were loaded")
    )
    words = r"cannot load copy|copy it again|The config is damaged|take a language model"
    with pytest.raises(CourseError, match=words) as error:
        load(copy)
    assert "\n" not in str(error.value)


def test_memory_that_runs_out_while_loading_is_one_sentence(folder, monkeypatch):
    def runs_out(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", runs_out)
    with pytest.raises(CourseError, match="memory ran out") as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bert"}, "would fill them with random numbers"),
        ({"hidden_size": 96}, "other sizes than its config.json says"),
        ({"num_experts_per_tok": 99}, "num_experts_per_tok is 99, more than the"),
        ({"quantization_config": {}}, "are quantized"),
    ],
    ids=str,
)
def test_a_config_that_is_not_that_of_the_weights(copy, change, words):
    settings = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(CourseError, match=words):
        load(copy)
