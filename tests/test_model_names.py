"""Names of models: every way in which a learner may write one, and what is said of those that are none."""

from pathlib import Path

import pytest

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID, CourseError
from helpers.model_names import EMBEDDED_MODEL_ID, canonical_id, resolve, same_model

OF_THE_REAL_MODEL = [
    "real",
    "REAL",
    " real ",
    REAL_MODEL_ID,
    "Qwen/Qwen1.5-MoE-A2.7B-Chat",
    "qwen/qwen1.5-moe-a2.7b-chat",
    "QWEN/QWEN1.5-MOE-A2.7B-CHAT",
    "qwen/Qwen1.5-MoE-A2.7B-Chat/",
    "qwen/Qwen1___5-MoE-A2___7B-Chat",
    "Qwen1.5-MoE-A2.7B-Chat",
    "qwen1.5-moe-a2.7b-chat",
    "Qwen1___5-MoE-A2___7B-Chat",
    '"Qwen1.5-MoE-A2.7B-Chat"',
    "“real”",
    "' \"real\" '",
    "https://modelscope.cn/models/qwen/Qwen1.5-MoE-A2.7B-Chat",
    "https://www.modelscope.cn/models/Qwen/Qwen1.5-MoE-A2.7B-Chat/summary",
    "https://huggingface.co/Qwen/Qwen1.5-MoE-A2.7B-Chat?library=transformers",
    "modelscope.cn/models/qwen/Qwen1.5-MoE-A2.7B-Chat",
    "HTTPS://HuggingFace.co/Qwen/Qwen1.5-MoE-A2.7B-Chat/tree/main",
    "https://www.modelscope.cn/qwen/Qwen1.5-MoE-A2.7B-Chat.git",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("text", OF_THE_REAL_MODEL)
def test_names_of_the_real_model(text):
    name = resolve(text)
    assert name.model_id == REAL_MODEL_ID
    assert name.folder is None
    assert name.is_real
    assert not name.is_embedded


@pytest.mark.parametrize(
    "text",
    ["embedded", "Embedded", EMBEDDED_MODEL_ID, "MoE-Course/Embedded-Toy-Model", "embedded-toy-model"],
)
def test_names_of_the_embedded_model(text):
    name = resolve(text)
    assert name.model_id == EMBEDDED_MODEL_ID
    assert name.folder == EMBEDDED_MODEL
    assert name.is_embedded
    assert not name.is_real


def test_the_folder_of_the_embedded_model_is_the_embedded_model():
    assert resolve(str(EMBEDDED_MODEL) + "/").is_embedded
    assert resolve(EMBEDDED_MODEL / "config.json").is_embedded


@pytest.mark.parametrize(
    "text", ["somebody/else", "Qwen/Qwen1.5-MoE-A2.7B", "Qwen/Qwen1.5-MoE-A2.7B-Chat-GPTQ-Int4"]
)
def test_another_model_keeps_its_spelling(text):
    name = resolve(text)
    assert (name.model_id, name.folder) == (text, None)
    assert not name.is_real


@pytest.mark.parametrize(
    "path", ["model", "./model", "home/model", "~/model", "models/qwen--x/snapshots/master"]
)
def test_folders(path, tmp_path):
    folder = Path(path).expanduser()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert resolve(path).folder == folder
    assert resolve(folder).folder == folder
    assert resolve(folder / "config.json").folder == folder
    assert not resolve(path).is_real


def test_a_folder_that_is_called_like_an_id_has_both():
    folder = Path("qwen/Qwen1.5-MoE-A2.7B-Chat")
    folder.mkdir(parents=True)
    name = resolve("qwen/Qwen1.5-MoE-A2.7B-Chat")
    assert (name.folder, name.model_id) == (folder, REAL_MODEL_ID)
    assert not name.is_real


def test_words_come_before_folders():
    Path("real").mkdir()
    assert resolve("real").is_real
    assert resolve("./real").folder == Path("real")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "No model is named"),
        ("  ", "No model is named"),
        ("/no/such/folder", "no folder /no/such/folder"),
        ("./missing", "no folder ./missing"),
        ("../../x", "no folder ../../x"),
        ("~/missing", "no folder ~/missing"),
        ("a/b/c", "no folder a/b/c"),
        ("C:\\models", "no folder C:"),
        ("~nobody-of-this-name/x", "no folder"),
        ("x" * 5000, "no folder and no model"),
        ("with\0zero", "no folder and no model"),
        ("Llama", "no folder and no model"),
        ("reel", "did you mean real"),
        ("embeded", "did you mean embedded"),
        ("Qwen1.5-MoE-A2.7B-Chatt", "did you mean qwen/Qwen1.5-MoE-A2.7B-Chat"),
        ("owner/.hidden", "no folder and no model"),
        ("owner/name with spaces", "no folder and no model"),
    ],
)
def test_what_is_no_model(text, words):
    with pytest.raises(CourseError) as error:
        resolve(text)
    assert words in str(error.value)
    assert "give a model folder, real, embedded" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(CourseError, match=r"weights\.bin is a file, not a model"):
        resolve(tmp_path / "weights.bin")


def test_ids_compare_without_case():
    assert same_model("Qwen/Qwen1.5-MoE-A2.7B-Chat", REAL_MODEL_ID)
    assert not same_model("Qwen/Qwen1.5-MoE-A2.7B", REAL_MODEL_ID)
    assert canonical_id("QWEN/qwen1.5-moe-a2.7b-chat") == REAL_MODEL_ID
    assert canonical_id("Somebody/Else") == "Somebody/Else"
