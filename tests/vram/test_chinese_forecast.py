"""The forecast in Chinese: the same figures as in English, and no English sentence in it."""

import json
import sys

import pytest
from chinese_text import CHINESE, check_chinese, english_in, numbers
from profiled_runs import tiny
from test_refusals import LLAMA, MOE

from helpers import EMBEDDED_MODEL, CourseError, vram
from helpers.vram import command
from helpers.vram.calculator import Calculator


def output_of(arguments, monkeypatch, capsys):
    """What the command prints, or the sentence that it ends with."""
    monkeypatch.setattr(sys, "argv", ["vram", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as end:
        if end.code:
            return str(end.code)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        [EMBEDDED_MODEL, "--fits"],
        [EMBEDDED_MODEL, "--prompt", "5000"],
        [EMBEDDED_MODEL, "--gpus", "1GiB", "--prompt", "1000", "--batch", "64"],
        [EMBEDDED_MODEL, "--batch", "0"],
        [EMBEDDED_MODEL, "--gpus", "many"],
        [EMBEDDED_MODEL, "--dtype", "int8"],
        [EMBEDDED_MODEL, "--attention", "magic"],
        [EMBEDDED_MODEL, "--experts", "magic"],
        ["nowhere"],
        ["somebody/else"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[1:])) or str(arguments[0]),
)
def test_the_command(arguments, both, monkeypatch, capsys):
    check_chinese(*both(lambda: output_of(arguments, monkeypatch, capsys)))


def test_keys_of_json_stay(both, monkeypatch, capsys):
    arguments = [EMBEDDED_MODEL, "--json"]
    english, chinese = both(lambda: json.loads(output_of(arguments, monkeypatch, capsys)))
    for result in (english, chinese):
        for name in ("verdict", "capacity"):
            result[name] = numbers(result[name])
    assert chinese == english


def test_every_way_in_which_a_card_can_lack_memory(both):
    choices = [{"batch": batch, "prompt": prompt} for batch in (0, 3) for prompt in (0, 400)]
    for fitting in choices:
        for phase in ("loading", "prefill", "decode"):
            said = both(lambda phase=phase, fitting=fitting: command.lack_during(phase, 1, 2.5, fitting))
            check_chinese(*said)
    for count in (None, 3):
        check_chinese(*both(lambda count=count: command.lack_for_weights(7.25, count)))


DAMAGED = [
    {**LLAMA, "hidden_size": "64"},
    {**LLAMA, "num_hidden_layers": -3},
    {**LLAMA, "vocab_size": 10**8},
    {**LLAMA, "num_key_value_heads": 3},
    {**LLAMA, "architectures": 5},
    {**LLAMA, "architectures": ["LlamaForSequenceClassification"]},
    {**LLAMA, "model_type": "no-such-model"},
    {**LLAMA, "model_type": None},
    {**LLAMA, "is_encoder_decoder": True},
    {**LLAMA, "vision_config": {}},
    {**LLAMA, "layer_types": ["linear_attention", "full_attention"]},
    {**LLAMA, "quantization_config": {"bits": 4}},
    {**LLAMA, "use_cache": "no"},
    {**LLAMA, "model_type": "gemma2", "sliding_window": None},
    {**LLAMA, "model_type": "mistral", "sliding_window": 0},
    {"model_type": "llama"},
    {**MOE, "num_experts_per_tok": 61},
    {**MOE, "num_experts_per_tok": 0},
    {**MOE, "moe_intermediate_size": 0},
]


def refusal(model):
    with pytest.raises(CourseError) as error:
        vram.forecast(model, ["24GiB"])
    return str(error.value)


@pytest.mark.parametrize("settings", DAMAGED, ids=range(len(DAMAGED)))
def test_refusals_of_a_config(settings, both, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    check_chinese(*both(lambda: refusal(tmp_path)))


def test_the_calculator_speaks_the_language_of_its_reader(monkeypatch):
    monkeypatch.setenv("COURSE_LANG", "zh")
    shown = Calculator(tiny(), gpus=["24GiB"], batch=1, prompt=256, new=2)
    for knob in (shown.batch, shown.prompt, shown.attention):
        assert CHINESE.search(knob.description)
    assert "放得下" in shown.words.value
    note = shown._repr_mimebundle_()["text/plain"]
    assert CHINESE.search(note)
    assert english_in(note) == []
