"""Inference in Chinese: which model is chosen, where it goes, what the command says, and every refusal."""

import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from chinese_text import check_chinese
from inference_samples import record, record_folder, user
from transformers import GenerationConfig

from helpers import EMBEDDED_MODEL, GB, GIB, REAL_MODEL_ID, choose_model
from helpers.environment import Card, Memory
from helpers.inference import (
    check_placement,
    command,
    encode_chat,
    load,
    memory,
    placement,
    stream_chat,
)
from helpers.inference.attention import FlashAttn, choose_attention
from helpers.inference.errors import cannot_load, weights_are_missing
from helpers.inference.model_folder import weights_bytes
from helpers.inference.overflow import overflow_error

FIRST = "model-00001-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


# Choosing a model


def test_the_embedded_model_is_chosen(in_both, monkeypatch):
    english, chinese = in_both(choose_model)
    check_chinese(english, chinese)
    assert chinese == (
        "模型：内置的玩具模型，因为还没有用 notebook 03 下载别的模型。"
        "要换模型，请把 COURSE_MODEL 设成模型文件夹或 embedded。\n"
    )
    check_chinese(*in_both(choose_model, "embedded"))
    monkeypatch.setenv("COURSE_MODEL", "embedded")
    check_chinese(*in_both(choose_model))


def test_another_model_is_chosen(folder, in_both, monkeypatch):
    check_chinese(*in_both(choose_model, folder))
    record_folder(folder, REAL_MODEL_ID)
    check_chinese(*in_both(choose_model))
    monkeypatch.setenv("COURSE_MODEL", str(folder))
    check_chinese(*in_both(choose_model))


@pytest.mark.parametrize("content", ["{", '{"model_id": "a/b", "revision": "master", "folder": "/nowhere"}'])
def test_a_record_that_is_no_longer_true(in_both, content):
    record(content)
    check_chinese(*in_both(choose_model))
    check_chinese(*in_both(choose_model, "real"))
    check_chinese(*in_both(choose_model, "a/b"))


@pytest.mark.parametrize("door", ["argument", "COURSE_MODEL"])
@pytest.mark.parametrize("wrong", ["nowhere", "./nowhere", "empty", "real", "somebody/another-model"])
def test_a_wish_that_cannot_be_met(in_both, wrong, door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    wanted = wrong
    if door == "COURSE_MODEL":
        monkeypatch.setenv("COURSE_MODEL", wrong)
        wanted = None
    check_chinese(*in_both(choose_model, wanted))


def test_a_recorded_model_that_is_not_whole(copy, in_both):
    record_folder(copy, REAL_MODEL_ID)
    (copy / FIRST).unlink()
    english, chinese = in_both(choose_model)
    check_chinese(english, chinese)
    assert "。）" not in chinese  # the refusal stands in brackets, without its full stop


# Model folders


def damage(folder, kind: str) -> None:
    """Damage a copy of a model folder in one way."""
    shard = folder / FIRST
    content = shard.read_bytes()
    if kind == "short":
        shard.write_bytes(content[:-1])
    elif kind == "long":
        shard.write_bytes(content + b"x")
    elif kind == "header":
        shard.write_bytes(b"\xff" * 16 + content[16:])
    elif kind == "pointer":
        shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    elif kind == "index":
        (folder / INDEX).write_text("{")
    elif kind == "metadata":
        (folder / INDEX).write_text('{"weight_map": {"a": "b"}}')
    else:
        (folder / kind).unlink()


KINDS = ["short", "long", "header", "pointer", "index", "metadata", "config.json", "tokenizer.json", FIRST]


@pytest.mark.parametrize("kind", [*KINDS, INDEX])
def test_a_damaged_folder(copy, in_both, kind):
    damage(copy, kind)
    check_chinese(*in_both(load, copy))


@pytest.mark.parametrize("names", [[], ["pytorch_model.bin"], ["model.gguf"]])
def test_a_folder_without_safetensors(folder, in_both, tmp_path, names):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    for name in names:
        (tmp_path / name).write_bytes(b"anything")
    check_chinese(*in_both(weights_bytes, tmp_path))
    check_chinese(*in_both(weights_bytes, tmp_path / "nowhere"))


def test_where_a_whole_folder_comes_from(copy, in_both, monkeypatch):
    (copy / FIRST).unlink()
    record_folder(copy)
    check_chinese(*in_both(weights_bytes, copy))
    monkeypatch.setattr("helpers.inference.model_folder.EMBEDDED_MODEL", copy)
    check_chinese(*in_both(weights_bytes, copy))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("ignore_mismatched_sizes"), ValueError("no sense")]
)
def test_what_transformers_cannot_load(copy, in_both, error):
    check_chinese(*in_both(lambda: str(cannot_load(copy, error))))
    check_chinese(*in_both(lambda: str(weights_are_missing(copy, {"lm_head.weight"}))))


def test_quantized_weights(copy, in_both):
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(
        text.replace("{", '{"quantization_config": {"quant_method": "gptq"},', 1)
    )
    check_chinese(*in_both(load, copy))


# Placement


def test_what_load_says(in_both):
    english, chinese = in_both(load, EMBEDDED_MODEL)
    check_chinese(english, chinese)
    assert chinese.startswith("权重：bfloat16 下 0.01 GiB，加载到 CPU 上。\n注意力实现：sdpa（")
    assert "Weights: 0.01 GiB in bfloat16, loaded on the CPU.\nAttention: sdpa (" in english


def test_what_check_placement_says(in_both, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    listed = Memory((Card("a GPU", GIB, GIB, True),), GIB, GB, "")
    monkeypatch.setattr(memory.environment, "read_memory", lambda: listed)
    english, chinese = in_both(check_placement, EMBEDDED_MODEL)
    check_chinese(english, chinese)
    assert "nvidia-smi lists 1 GPU(s)" in english
    assert "。nvidia-smi 列出了 1 张 GPU" in chinese


def test_small_models_on_gpus(in_both):
    capacity = SimpleNamespace(kind=placement.Kind.GPUS, dtype="bfloat16", on_gpus=(1, 2))
    check_chinese(*in_both(placement.small_sentence, capacity, GIB))


def test_what_needs_the_disk(folder, in_both, monkeypatch):
    monkeypatch.setattr(placement, "SMALL_MODEL", 0)
    monkeypatch.setattr(placement, "read_memory", lambda _: Memory(ram=10**5, disk=100 * GB))
    english, chinese = in_both(load, folder)
    check_chinese(english, chinese)
    assert 'load(choose_model("real"), offload_folder="offload")' in chinese


def test_what_from_pretrained_alone_does_not_do(folder, in_both, monkeypatch):
    found = placement.find_placement(folder)
    other = placement.Placement(found.capacity, {}, "", found.weights, bare_call_agrees=False)
    monkeypatch.setattr(placement, "find_placement", lambda _: other)
    check_chinese(*in_both(check_placement, folder))


@pytest.mark.parametrize("state", list(FlashAttn))
@pytest.mark.parametrize("capabilities", [[], [(7, 5)], [(8, 6)]])
def test_why_an_attention_was_chosen(in_both, state, capabilities):
    check_chinese(*in_both(lambda: choose_attention(state, capabilities).reason))


# Conversations and options


HELLO = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "Hello",
        ["Hello"],
        [{"role": "user"}],
        [{"content": "Hello"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": 7}],
        [{**HELLO, "images": ["cat.png"]}],
        [{"role": "tool", "content": "4"}],
    ],
)
def test_what_is_no_conversation(loaded, in_both, messages):
    check_chinese(*in_both(encode_chat, loaded[1], messages))


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ raise_exception('no') }}",
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0] }}",
        "{% if messages|length > 1 %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}",
        "Assistant:",
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        "{{ messages[-1].content | upper }}{{ messages[0].content }}",
    ],
)
def test_templates(loaded, in_both, monkeypatch, template):
    tokenizer = loaded[1]
    monkeypatch.setattr(tokenizer, "chat_template", template)
    check_chinese(*in_both(encode_chat, tokenizer, user("<|im_end|>")))
    if template and "length" in template:
        check_chinese(*in_both(encode_chat, tokenizer, [HELLO, HELLO]))


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 4},
        {"num_beams": 0},
        {"num_return_sequences": 2},
        {"use_cache": False},
        {"streamer": object()},
        {"position_ids": [0, 1]},
        {"max_new_tokens": "many"},
        {"max_new_tokens": 0},
        {"eos_token_id": "x"},
        {"stop_strings": []},
        {"stop": ["\n"]},
        {"generation_config": {"temperature": 1}},
        {"logits_processor": max},
        {"trust_remote_code": True},
        {"generation_config": GenerationConfig(num_beams=3)},
    ],
)
def test_options(loaded, in_both, options):
    check_chinese(*in_both(lambda: list(stream_chat(*loaded, user("x"), **options))))


def test_options_that_transformers_refuses_are_quoted(loaded, in_both):
    _english, chinese = in_both(lambda: list(stream_chat(*loaded, user("x"), nonsense=3)))
    assert chinese.startswith("generate 拒绝了这些选项（")
    assert chinese.endswith("）：请改正，或者去掉。")


def test_a_stream_is_read_once(loaded, in_both):
    stream = stream_chat(*loaded, user("x"), max_new_tokens=1)
    list(stream)
    check_chinese(*in_both(list, stream))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_overflow(in_both, dtype):
    check_chinese(*in_both(lambda: str(overflow_error(dtype))))


# The command


def test_help(in_both, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    english, chinese = in_both(command.main, ["--help"])
    check_chinese(english, chinese, "You are a helpful assistant.")
    assert chinese.startswith("用法：python -m helpers.inference [-h]")


WRONG_ARGUMENTS = [
    [],
    ["a", "b"],
    ["a", "--max-new-tokens", "many"],
    ["a", "--max-new-tokens", "0"],
    ["a", "--model", "nowhere"],
    ["a", "--model", "real"],
    ["a", "--offload-folder"],
    ["a", "--nonsense"],
]


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS, ids=" ".join)
def test_wrong_arguments(folder, in_both, monkeypatch, arguments):
    monkeypatch.setenv("COURSE_MODEL", str(folder))
    check_chinese(*in_both(command.main, arguments))


def test_the_line_of_numbers(in_both):
    stream = SimpleNamespace(
        prompt_tokens=29,
        new_tokens=20,
        tokens_per_second=22.04,
        first_token_seconds=0.234,
        finish_reason="length",
    )
    english, chinese = in_both(command.figures, stream)
    check_chinese(english, chinese)
    assert chinese == "提示词 29 个词元，新生成 20 个词元，每秒 22.0 个，第一个用了 0.23 秒，结束原因：length"


def test_the_command_answers(folder, in_both, monkeypatch):
    monkeypatch.setattr(command, "figures", lambda stream: "")
    english, chinese = in_both(command.main, ["hello", "--model", str(folder), "--max-new-tokens", "1"])
    answer = english.splitlines()[0]
    assert "Weights: " in english
    assert not {"Model:", "Weights:", "Attention:"} & set(chinese.removeprefix(answer).split())


def test_memory_and_system_messages(loaded, folder, in_both, monkeypatch):
    monkeypatch.setattr(command, "takes_system_message", lambda _: False)
    check_chinese(*in_both(command.make_messages, loaded[1], "Be brief.", "Hello"))

    def runs_out(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(command, "stream_chat", runs_out)
    monkeypatch.setattr(command, "load", lambda *arguments: loaded)
    monkeypatch.setattr(sys, "argv", ["helpers.inference"])
    check_chinese(*in_both(command.main, ["Hello", "--model", str(folder)]))
