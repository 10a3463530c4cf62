"""`python -m helpers.vram`: what it prints, and what bad input gets."""

import json
import re
import sys

import pytest

from helpers import EMBEDDED_MODEL, CourseError, vram
from helpers.vram import command

COLUMNS = "GiB weights kv_cache loading prefill decode context overhead needs size"


@pytest.fixture
def run_command(monkeypatch, capsys):
    """A function: run the command with these arguments, return the lines that it prints."""

    def run(*arguments) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["vram", *map(str, arguments)])
        command.main()
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "'nowhere' is no folder and no model that the course knows"),
        (["real", "--batch", "0"], "Batch 0, prompt 2048, new 512: each must be a whole number, at least 1."),
        (["real", "--gpus", "many"], "many is no size of a GPU: give one such as 24GiB or 24GB."),
        (["real", "--gpus", "0GB"], "0GB is no size of a GPU"),
        (["real", "--dtype", "float8_e4m3fn"], "The forecast does not know the dtype 'float8_e4m3fn'"),
        (["real", "--dtype", "int8"], "take bfloat16, float16, float32."),
        (["real", "--attention", "magic"], "The forecast does not know the attention 'magic'"),
        (["real", "--experts", "magic"], "The forecast does not know the experts 'magic'"),
        (["somebody/else"], "The config of somebody/else is not on this machine"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, sentence, run_command):
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        run_command(*arguments)


def test_a_missing_config_is_a_course_error(tmp_path):
    with pytest.raises(CourseError):
        vram.load_config(tmp_path)


def test_command_prints_a_table(run_command):
    lines = run_command(vram.REAL_CONFIG, "--gpus", "80GiB", "--new", "1")
    assert lines[0].split() == COLUMNS.split()
    assert lines[1].split()[:3] == ["GPU", "0", "26.67"]


def test_command_prints_json(run_command):
    lines = run_command(vram.REAL_CONFIG, "--gpus", "80GiB", "--new", "1", "--json")
    result = json.loads("\n".join(lines))
    assert result["fits"]
    assert result["gpus"][0]["weights"] == 28_631_568_384


def test_command_says_what_else_fits(run_command):
    lines = run_command(EMBEDDED_MODEL, "--fits")
    assert re.fullmatch(r"Largest that fits, all else equal: prompt 1,536, batch [\d,]+\.", lines[4])
    limit = r"The prompt ends where the model's 2,048 tokens do; memory alone would allow [\d,]+\."
    assert re.fullmatch(limit, lines[5])
    assert len(lines) == 6 + len(vram.CARDS)


def test_command_says_that_a_request_is_too_long(run_command):
    lines = run_command("real", "--gpus", "80GiB", "--prompt", "100000", "--new", "1")
    assert lines[-1].startswith(
        "The model was made for 32,768 tokens, and prompt and answer have 67,233 more: "
        "take a shorter prompt. The memory would do: "
    )


@pytest.mark.parametrize("name", ["real", "Qwen/Qwen1.5-MoE-A2.7B-Chat", "qwen1.5-moe-a2.7b-chat"])
def test_names_of_the_real_model(name):
    assert vram.load_config(name).num_experts == 60


def test_embedded_is_the_embedded_model():
    assert vram.load_config("embedded").num_experts == vram.load_config(EMBEDDED_MODEL).num_experts
