"""Choosing a model: what was asked for, what was recorded, and what always works."""

import json

import pytest

from helpers import EMBEDDED_MODEL, GIB, CourseError, choose_model
from helpers.inference import choosing
from helpers.inference.memory import FreeMemory
from helpers.settings import record_file

REAL_WEIGHTS = 28_632_144_944  # bytes of the eight shards of Qwen1.5-MoE-A2.7B-Chat


def record(text: str) -> None:
    """Write the record of a download."""
    record_file().parent.mkdir(parents=True, exist_ok=True)
    record_file().write_text(text, encoding="utf-8")


def record_folder(folder, model_id: str = "a/b") -> None:
    record(json.dumps({"model_id": model_id, "revision": "master", "folder": str(folder)}))


def test_without_anything_the_embedded_toy_is_chosen(capsys):
    assert choose_model() == EMBEDDED_MODEL
    output = capsys.readouterr().out
    assert "toy" in output
    assert "COURSE_MODEL" in output
    assert output.count("\n") == 1


def test_course_model_comes_first(folder, monkeypatch, capsys):
    record_folder("nowhere")
    monkeypatch.setenv("COURSE_MODEL", str(folder))
    assert choose_model() == folder
    monkeypatch.setenv("COURSE_MODEL", " embedded ")
    assert choose_model() == EMBEDDED_MODEL
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "tiny, because COURSE_MODEL asks for it" in lines[0]
    assert str(folder.parent) not in lines[0]
    assert "toy" in lines[1]


def test_the_argument_comes_before_course_model(folder, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_MODEL", "embedded")
    assert choose_model(f" {folder} ") == folder
    assert "tiny, because --model asks for it" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["nowhere", ".", "config.json"])
def test_a_wrong_course_model_is_refused_in_one_sentence(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_MODEL", str(tmp_path / wrong))
    with pytest.raises(CourseError, match="no model folder") as error:
        choose_model()
    assert str(tmp_path) not in str(error.value)


def test_the_recorded_folder_is_chosen(folder, capsys):
    record_folder(folder, model_id="qwen/Qwen1.5-MoE-A2.7B-Chat")
    assert choose_model() == folder
    output = capsys.readouterr().out
    assert "qwen/Qwen1.5-MoE-A2.7B-Chat" in output
    assert str(folder) not in output


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"model_id": "a", "folder": null}', "cannot be read"),
        ('{"model_id": "a/b", "revision": "master", "folder": "/nowhere/at/all"}', "incomplete"),
    ],
)
def test_a_stale_record_falls_back_with_the_reason(content, reason, capsys):
    record(content)
    assert choose_model() == EMBEDDED_MODEL
    output = capsys.readouterr().out
    assert reason in output
    assert "toy" in output
    assert output.count("\n") == 1
    assert "/nowhere" not in output


def test_a_recorded_model_with_a_missing_shard_falls_back(copy, capsys):
    record_folder(copy)
    (copy / "model-00002-of-00003.safetensors").unlink()
    assert choose_model() == EMBEDDED_MODEL
    assert "model-00002-of-00003.safetensors" in capsys.readouterr().out


def test_a_recorded_model_that_this_machine_cannot_hold_falls_back(folder, monkeypatch, capsys):
    record_folder(folder)
    monkeypatch.setattr(choosing, "weights_bytes", lambda _: REAL_WEIGHTS)
    monkeypatch.setattr(choosing, "read_free_memory", lambda: FreeMemory((), 4 * GIB))
    assert choose_model() == EMBEDDED_MODEL
    output = capsys.readouterr().out
    assert "26.7 GiB" in output
    assert "RAM 4.0 GiB" in output
    assert output.count("\n") == 1
