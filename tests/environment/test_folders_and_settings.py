"""Folders and settings of every odd kind, end to end: one clear sentence, in both languages, or an answer."""

import json
import os
import shutil
from pathlib import Path

import pytest
from chinese_text import check_chinese
from test_environment_command import run_check
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from helpers import EMBEDDED_MODEL, CourseError, settings, vram
from helpers.environment import model_config, probes, show_environment, size_of_folder
from helpers.environment.model_folder import folder_state, recorded_download
from helpers.environment.model_kind import language_models
from helpers.inference.meta_model import read_config
from helpers.model_names import resolve


def folder_with(place, **changes):
    """A copy of the embedded model with these settings in its config.json; None: without the setting."""
    shutil.copytree(EMBEDDED_MODEL, place)
    config = json.loads((place / "config.json").read_text(encoding="utf-8")) | changes
    kept = {name: value for name, value in config.items() if value is not None}
    (place / "config.json").write_text(json.dumps(kept))
    return place


@pytest.fixture
def refusal(monkeypatch):
    """A function: the sentence with which a call is refused, after a look at the Chinese one."""

    def run(function, *arguments):
        sentences = []
        for language in ("en", "zh"):
            monkeypatch.setenv("COURSE_LANG", language)
            with pytest.raises(CourseError) as error:
                function(*arguments)
            sentences.append(str(error.value))
        check_chinese(*sentences)
        assert "\n" not in sentences[0]
        return sentences[0]

    return run


# --- kinds of models --------------------------------------------------------------------------------------


def test_the_list_is_that_of_the_installed_transformers():
    """Where it differs: write sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) into language_models.txt."""
    assert language_models() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


@pytest.mark.parametrize("kind", ["llava", "t5", "clip", "no-such-model", "модель", 5, ["llama"], ""])
def test_a_model_that_writes_no_text(kind, tmp_path, refusal):
    folder = folder_with(tmp_path / "mine", model_type=kind)
    sentence = refusal(size_of_folder, folder)
    assert f"mine is a model of the type {json.dumps(kind, ensure_ascii=False)}" in sentence
    assert refusal(read_config, folder) == sentence, "the loader says the same"


def test_an_encoder_with_a_decoder(tmp_path, refusal):
    folder = folder_with(tmp_path / "mine", model_type="bart", is_encoder_decoder=True)
    assert "an encoder with a decoder" in refusal(size_of_folder, folder)


def test_a_config_without_a_kind(tmp_path, refusal):
    folder = folder_with(tmp_path / "mine", model_type=None)
    assert "does not say its model_type" in refusal(size_of_folder, folder)


# --- settings of a wrong kind -----------------------------------------------------------------------------

DAMAGED = [
    ({"torch_dtype": 5}, "torch_dtype is 5, not one of bfloat16"),
    ({"dtype": "float99"}, 'dtype is "float99", not one of bfloat16'),
    ({"dtype": ["bfloat16"]}, 'dtype is ["bfloat16"], not one of'),
    ({"dtype": {"text": "bfloat16"}}, "not one of bfloat16"),
    ({"dtype": True}, "dtype is true, not one of"),
    ({"rope_scaling": 5}, "rope_scaling is 5, not an object in braces"),
    ({"rope_scaling": "yarn"}, 'rope_scaling is "yarn", not an object in braces'),
    ({"rope_scaling": [1, 2]}, "rope_scaling is [1, 2], not an object in braces"),
    ({"rope_parameters": "x"}, 'rope_parameters is "x", not an object in braces'),
    ({"rope_scaling": {"type": 5}}, "rope_scaling is of the type 5, not one of default, linear"),
    ({"rope_scaling": {"rope_type": "magic"}}, 'is of the type "magic", not one of default'),
    ({"rope_scaling": {"type": "yarn"}}, "rope_scaling of the type yarn has no factor"),
    ({"rope_scaling": {"type": "linear", "factor": "4"}}, 'rope_scaling.factor is "4", not a number above 0'),
    ({"rope_scaling": {"type": "linear", "factor": -4}}, "rope_scaling.factor is -4, not a number above 0"),
    ({"rope_scaling": {"type": "linear", "factor": True}}, "factor is true, not a number above 0"),
    ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "factor is NaN, not a number above 0"),
    ({"rope_scaling": {"type": "yarn", "factor": float("inf")}}, "factor is Infinity, not a number above"),
    (
        {"rope_scaling": {"type": "longrope", "short_factor": "x", "long_factor": [1]}},
        'rope_scaling.short_factor is "x", not a list of numbers',
    ),
    ({"rope_parameters": {"full_attention": {"rope_type": "magic"}}}, 'is of the type "magic"'),
    ({"rope_theta": "x"}, 'rope_theta is "x", not a number above 0'),
    ({"rope_theta": 0}, "rope_theta is 0, not a number above 0"),
]


@pytest.mark.parametrize(("changes", "words"), DAMAGED, ids=str)
def test_check_loader_and_forecast_refuse_with_the_same_sentence(changes, words, tmp_path, refusal):
    folder = folder_with(tmp_path / "mine", **changes)
    sentence = refusal(size_of_folder, folder)
    assert words in sentence
    assert refusal(read_config, folder) == sentence
    assert refusal(vram.load_config, folder) == sentence


GOOD = [
    {"dtype": "float32"},
    {"torch_dtype": "float16"},
    {"rope_scaling": {}},
    {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}},
    {"rope_scaling": {"rope_type": "linear", "factor": 2}},
]


@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_what_makes_sense_is_accepted(changes, tmp_path):
    folder = folder_with(tmp_path / "mine", **changes)
    assert size_of_folder(folder).total > 0
    assert read_config(folder).model_type == "qwen2_moe"


def test_the_kinds_of_rotary_positions_are_those_of_transformers():
    assert set(ROPE_INIT_FUNCTIONS) <= set(model_config.ROPE_TYPES)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "see its line 1"),
        (b'{"a": 1,\n"b": }', "see its line 2"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 200_000, "is no JSON"),
        (b"[]", "no JSON object"),
        (b"", "see its line 1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_config_that_cannot_be_read(content, words, tmp_path, refusal):
    folder = folder_with(tmp_path / "mine")
    (folder / "config.json").write_bytes(content)
    assert words in refusal(size_of_folder, folder)


# --- folders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [(), ("vocab.json",)])
def test_a_folder_without_a_tokenizer(kept, tmp_path, refusal):
    folder = folder_with(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    for name in kept:
        (folder / name).write_text("{}")
    lacks = "tokenizer.json"
    if kept:
        lacks = "merges.txt"
    assert folder_state(folder).state == "incomplete"
    sentence = refusal(show_environment, None, str(folder))
    assert f"The model folder mine has no {lacks}, so there is no tokenizer" in sentence


def test_a_folder_that_may_not_be_read(tmp_path, refusal, monkeypatch):
    folder = folder_with(tmp_path / "mine")

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert "mine cannot be read: change its permissions" in refusal(show_environment, None, str(folder))
    monkeypatch.setattr(Path, "is_dir", forbidden)
    assert "may not be read by this user" in refusal(resolve, str(folder))


ODD_NAMES = ["with space", "it's", 'say "hi"', "模型", "a{b}", "$HOME", "-x"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_of_an_odd_name_is_checked(name, tmp_path, monkeypatch, capsys):
    folder = folder_with(tmp_path / name)
    monkeypatch.setenv("COURSE_MODEL", str(folder))
    show_environment()
    assert f"Checked for the {name} model, because COURSE_MODEL asks for it." in capsys.readouterr().out


@pytest.mark.parametrize("path", [".", "./", "../mine", "../mine/config.json", "~/mine"])
def test_a_folder_by_another_path(path, tmp_path, monkeypatch, capsys):
    folder = folder_with(tmp_path / "mine")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COURSE_MODEL", path)
    show_environment()
    assert "Checked for the mine model" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "/no/such\nfolder",
        "/tab\there",
        "\ud800/x/y",
        "http://\n",
        "two\nlines",
        "\x1b[31mred",
        "~nobody-here/x",
    ],
    ids=ascii,
)
def test_a_name_with_signs_that_cannot_be_shown(text, refusal):
    sentence = refusal(resolve, text)
    assert sentence.isprintable()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("value", ["", "x", "--model", "/no such/place", "'", "模型"])
def test_the_command_never_ends_in_a_traceback(value, language):
    result = run_check("--model", value, bare=True, COURSE_LANG=language, LC_ALL="C.UTF-8")
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") <= 1
    assert bool(result.stdout) == (value == "")


# --- settings from outside --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where", ["~nobody-of-this-name/x", "relative/x", "/dev/null/x", "with space", "模型", "x" * 300]
)
@pytest.mark.parametrize("variable", ["COURSE_CACHE", "MODELSCOPE_CACHE"])
def test_caches_at_odd_places(variable, where, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, where)
    assert recorded_download().state in ("none", "unreadable")
    assert settings.model_cache().is_absolute()
    probes.free_disk(settings.model_cache())
    probes.kind_of_disk(settings.model_cache())


RECORDS = ["~nobody-of-this-name/x", "relative/x", "", "/dev/null", "with space", "模型", "a\0b", "x" * 5000]


@pytest.mark.parametrize("folder", RECORDS, ids=lambda value: ascii(value)[:30])
def test_a_record_of_an_odd_folder(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    content = {"model_id": "a/b", "revision": "master", "folder": folder}
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert recorded_download().state in ("gone", "incomplete")


@pytest.mark.parametrize("content", [b"\xff", b"[" * 200_000, b'{"folder": null}', b"5"], ids=range(4))
def test_a_record_that_is_none(content, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    (tmp_path / "model.json").write_bytes(content)
    assert recorded_download().state == "unreadable"


@pytest.mark.parametrize(
    ("value", "is_set"),
    [
        ("http://127.0.0.1:1", True),
        ("nonsense", True),
        ("代理", True),
        ("a b", True),
        ("", False),
        ("  ", False),
    ],
)
def test_proxies(value, is_set, monkeypatch):
    for name in probes.PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", value)
    assert (probes.read_proxies() == ("https_proxy",)) == is_set
    assert os.environ["https_proxy"] == value
