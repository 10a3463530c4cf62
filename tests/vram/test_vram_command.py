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
        (["nowhere"], "nowhere has no model config: give a model folder, or real."),
        (["real", "--batch", "0"], "Batch 0, prompt 2048, new 512: each must be at least 1."),
        (["real", "--gpus", "many"], "`size` many is not in a valid format"),
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
    assert re.fullmatch(r"Largest that fits, all else equal: prompt [\d,]+, batch [\d,]+\.", lines[4])
    assert len(lines) == 5 + len(vram.CARDS)
