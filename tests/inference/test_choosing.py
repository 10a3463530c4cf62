"""Choosing a model: what was asked for, what was recorded, and what always works."""

import shutil

import pytest
from inference_samples import record, record_folder

from helpers import EMBEDDED_MODEL, GB, GIB, REAL_MODEL_ID, CourseError, choose_model
from helpers.environment import Memory
from helpers.inference import placement

REAL_WEIGHTS = 28_632_144_944  # bytes of the eight shards of Qwen1.5-MoE-A2.7B-Chat
REAL_CONFIG = EMBEDDED_MODEL.parent / "vram" / "qwen1.5-moe-a2.7b-chat.config.json"


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


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_an_empty_wish_is_none(nothing, monkeypatch):
    monkeypatch.setenv("COURSE_MODEL", "   ")
    assert choose_model(nothing) == EMBEDDED_MODEL


def test_the_argument_comes_before_course_model(folder, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_MODEL", "embedded")
    assert choose_model(f" {folder} ") == folder
    assert choose_model(folder) == folder
    assert "tiny, because it was asked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "real",
        "REAL",
        REAL_MODEL_ID,
        "Qwen/Qwen1.5-MoE-A2.7B-Chat",
        "QWEN/QWEN1.5-MOE-A2.7B-CHAT",
        "Qwen1.5-MoE-A2.7B-Chat",
        "qwen1.5-moe-a2.7b-chat",
    ],
)
@pytest.mark.parametrize("door", ["argument", "COURSE_MODEL"])
def test_a_downloaded_model_is_found_by_each_of_its_names(folder, monkeypatch, capsys, name, door):
    monkeypatch.chdir(folder.parent)
    record_folder(folder, model_id="Qwen/Qwen1.5-MoE-A2.7B-Chat")
    if door == "argument":
        assert choose_model(name) == folder
    else:
        monkeypatch.setenv("COURSE_MODEL", name)
        assert choose_model() == folder
    assert f"Model: {REAL_MODEL_ID}, because" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["embedded", "Embedded", str(EMBEDDED_MODEL)])
def test_the_embedded_model_is_found_by_each_of_its_names(name, capsys):
    assert choose_model(name) == EMBEDDED_MODEL
    assert "the embedded toy model" in capsys.readouterr().out


@pytest.mark.parametrize("door", ["argument", "COURSE_MODEL"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("nowhere", "no folder and no model"),
        ("./nowhere", "no folder"),
        ("empty", "no model folder (no config.json)"),
        ("empty/file.txt", "is a file"),
        ("embeded", "did you mean embedded"),
        ("real", "is not downloaded: run notebook 03"),
        ("somebody/another-model", "python -m helpers.download download somebody/another-model"),
    ],
)
def test_a_wrong_wish_is_refused_in_one_sentence(wrong, words, door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file.txt").write_text("")
    wanted = None
    if door == "COURSE_MODEL":
        monkeypatch.setenv("COURSE_MODEL", wrong)
    else:
        wanted = wrong
    with pytest.raises(CourseError) as error:
        choose_model(wanted)
    sentence = str(error.value)
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert sentence.startswith("COURSE_MODEL: ") == (door == "COURSE_MODEL")


def test_the_recorded_folder_is_chosen(folder, capsys):
    record_folder(folder, model_id="qwen/Qwen1.5-MoE-A2.7B-Chat")
    assert choose_model() == folder
    output = capsys.readouterr().out
    assert "qwen/Qwen1.5-MoE-A2.7B-Chat" in output
    assert str(folder) not in output


# A record that is no longer true.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ("\udcff", "cannot be read"),
        ('{"model_id": "a", "folder": null}', "cannot be read"),
        ('{"model_id": "a/b", "revision": "master", "folder": "/nowhere/at/all"}', "its folder is gone"),
    ],
)
def test_a_stale_record_falls_back_with_the_reason(content, reason, capsys):
    record(content)
    assert choose_model() == EMBEDDED_MODEL
    output = capsys.readouterr().out
    assert reason in output
    assert "run notebook 03 again" in output
    assert "toy" in output
    assert output.count("\n") == 1
    assert "/nowhere" not in output
    with pytest.raises(CourseError, match=r"cannot be read|gone|not downloaded"):
        choose_model("real")


@pytest.mark.parametrize(
    "missing", ["config.json", "tokenizer.json", "model-00002-of-00003.safetensors", "half of a shard"]
)
def test_a_recorded_model_that_is_half_there_falls_back(copy, capsys, missing):
    record_folder(copy, REAL_MODEL_ID)
    if missing == "half of a shard":
        missing = "model-00002-of-00003.safetensors"
        content = (copy / missing).read_bytes()
        (copy / missing).write_bytes(content[: len(content) // 2])
    else:
        (copy / missing).unlink()
    assert choose_model() == EMBEDDED_MODEL
    output = capsys.readouterr().out
    assert missing in output
    assert "run notebook 03 again" in output
    with pytest.raises(CourseError, match=missing):
        choose_model("real")


def test_a_folder_that_was_emptied_is_not_there(copy, capsys):
    record_folder(copy)
    shutil.rmtree(copy)
    copy.mkdir()
    assert choose_model() == EMBEDDED_MODEL
    assert "incomplete (no config.json)" in capsys.readouterr().out


def test_a_recorded_model_that_this_machine_cannot_hold_falls_back(folder, tmp_path, monkeypatch, capsys):
    real = tmp_path / "real"
    real.mkdir()
    shutil.copy(REAL_CONFIG, real / "config.json")
    record_folder(real)
    monkeypatch.setattr(placement, "weights_bytes", lambda _: REAL_WEIGHTS)
    monkeypatch.setattr(placement, "read_memory", lambda _: Memory(ram=4 * GIB, disk=5 * GB))
    assert choose_model() == EMBEDDED_MODEL
    output = capsys.readouterr().out
    assert "26.7 GiB in bfloat16" in output
    assert "of 4.0 GiB free count" in output
    assert output.count("\n") == 1
