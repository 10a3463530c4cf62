"""Folders that other tools have made: adopted where they are complete, refused with the reason where not."""

import json
import shutil
from pathlib import Path

import pytest
from stage import MODEL_ID, SHARD

from helpers import REAL_MODEL_ID, CourseError
from helpers.download import download, manifest, verify
from helpers.download.place import id_of

INDEX = "model.safetensors.index.json"


@pytest.fixture
def foreign(local_hub, source, tmp_path):
    """The model as some other tool put it on the disk, in a folder whose name says nothing."""
    (source / "tokenizer.json").write_text("{}")
    folder = tmp_path / "models-of-mine" / "chat"
    shutil.copytree(source, folder)
    return folder


@pytest.fixture
def offline(foreign, local_hub, monkeypatch):
    """The same, where no hub can be reached."""
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    return foreign


def test_by_the_hubs_list(foreign, local_hub, capsys):
    assert verify(foreign, model_id=MODEL_ID) == foreign
    assert "compared with the hub's list" in capsys.readouterr().out
    known = manifest.read(foreign)
    assert (known.model_id, known.revision) == (MODEL_ID, "master")
    listed = {entry["Path"]: entry["Sha256"] for entry in local_hub.file_list()}
    assert {file.path: file.sha256 for file in known.files} == listed
    local_hub.seen.clear()
    verify(foreign)
    assert not local_hub.seen  # from now on it is checked offline


def test_by_the_hubs_list_where_the_path_spells_the_model(foreign, tmp_path, capsys):
    folder = tmp_path / "cache" / "models" / MODEL_ID.replace("/", "--") / "snapshots" / "master"
    shutil.copytree(foreign, folder)
    verify(folder)
    assert "compared with the hub's list" in capsys.readouterr().out


def test_a_wrong_byte_is_found_and_repaired(foreign, local_hub):
    content = (foreign / SHARD).read_bytes()
    (foreign / SHARD).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CourseError, match=f"1 of 7 files wrong, {SHARD} has another sha256"):
        verify(foreign, model_id=MODEL_ID)
    assert manifest.read(foreign) is None
    local_hub.seen.clear()
    verify(foreign, repair=True, model_id=MODEL_ID)
    assert [request.path for request in local_hub.seen if request.kind == "file"] == [SHARD]
    assert (foreign / SHARD).read_bytes() == content
    assert manifest.read(foreign) is not None


def test_a_missing_file_is_found_before_anything_is_hashed(foreign, local_hub):
    (foreign / SHARD).unlink()
    with pytest.raises(
        CourseError, match=f"1 of 7 files are missing, {SHARD} first: verify with repair=True"
    ):
        verify(foreign, model_id=MODEL_ID)
    verify(foreign, repair=True, model_id=MODEL_ID)
    assert manifest.read(foreign) is not None


def test_a_download_that_was_interrupted_goes_on_with_download(foreign, tmp_path):
    folder = tmp_path / "cache" / "models" / MODEL_ID.replace("/", "--") / "snapshots" / "master"
    shutil.copytree(foreign, folder)
    (folder / SHARD).unlink()
    with pytest.raises(CourseError, match=f"1 of 7 files are missing, {SHARD} first: run download"):
        verify(folder)


def test_by_hashing_without_network(offline, capsys):
    verify(offline, model_id=MODEL_ID)
    text = capsys.readouterr().out
    assert "No connection to 127.0.0.1" in text
    assert "this proves only what is there" in text
    assert len(manifest.read(offline).files) == 7
    content = (offline / SHARD).read_bytes()
    (offline / SHARD).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CourseError, match="another sha256"):
        verify(offline)


def test_by_hashing_where_no_model_is_named(foreign, local_hub, capsys):
    verify(foreign)
    text = capsys.readouterr().out
    assert "no model of the hub is named" in text
    assert "chat: 7 files" in text
    assert not local_hub.seen
    (foreign / SHARD).unlink()
    with pytest.raises(CourseError, match="from no hub that the course knows"):
        verify(foreign, repair=True)


def test_by_hashing_where_the_hub_does_not_have_the_model(foreign, capsys):
    verify(foreign, model_id="somebody/private-model")
    assert "it has no such thing" in capsys.readouterr().out


def test_hidden_files_of_other_tools_do_not_count(foreign):
    (foreign / ".git").mkdir()
    (foreign / ".git" / "HEAD").write_text("ref")
    (foreign / ".msc").write_bytes(b"x")
    verify(foreign)
    assert len(manifest.read(foreign).files) == 7
    (foreign / ".msc").write_bytes(b"changed")
    verify(foreign, full=True)


def test_an_adopted_copy_of_the_real_model_is_recorded(foreign, local_hub, tmp_path):
    local_hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a test may rename it
    folder = tmp_path / "qwen1.5-moe-a2.7b-chat"
    foreign.rename(folder)
    verify(folder)
    record = json.loads((tmp_path / "record" / "model.json").read_text())
    assert record["folder"] == str(folder)
    assert record["model_id"] == REAL_MODEL_ID


def test_an_adopted_copy_in_the_cache_is_used_without_network(foreign, tmp_path, monkeypatch):
    folder = tmp_path / "cache" / "somebody" / "small-model"
    shutil.copytree(foreign, folder)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    verify(folder, model_id=MODEL_ID)
    assert download(MODEL_ID, cache_dir=tmp_path / "cache") == folder


# What an index may look like


@pytest.mark.parametrize(
    "metadata", [None, {}, {"total_size": 1}, {"total_size": "many"}, {"total_size": 10**15}]
)
def test_an_index_without_total_size_or_with_a_wrong_one(offline, metadata):
    index = json.loads((offline / INDEX).read_text())
    if metadata is not None:
        index["metadata"] = metadata
    (offline / INDEX).write_text(json.dumps(index))
    assert verify(offline) == offline  # transformers loads it, so it is complete


def test_one_file_without_an_index(offline):
    for number in (2, 3):
        (offline / f"model-0000{number}-of-00003.safetensors").unlink()
    (offline / "model-00001-of-00003.safetensors").rename(offline / "model.safetensors")
    (offline / INDEX).unlink()
    assert verify(offline) == offline


# What is refused


def lose_shard(folder: Path) -> None:
    (folder / SHARD).unlink()


def cut_shard(folder: Path) -> None:
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(content[:-100])


def spoil_shard(folder: Path) -> None:
    (folder / SHARD).write_bytes(b"\xff" * 100)


def spoil_index(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": ')


def lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def lose_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def only_bin(folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        shard.rename(shard.with_suffix(".bin"))
    (folder / INDEX).rename(folder / "pytorch_model.bin.index.json")


def lose_weights(folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        shard.unlink()


def begin_download(folder: Path) -> None:
    (folder / SHARD).rename(folder / f"{SHARD}.incomplete")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


REFUSED = [
    (lose_shard, f"no complete model, it lacks {SHARD}"),
    (cut_shard, f"1 of 7 files of chat are damaged, {SHARD} has another length"),
    (spoil_shard, f"{SHARD} cannot be read"),
    (spoil_index, f"{INDEX} cannot be read"),
    (lose_config, "lacks config.json"),
    (lose_tokenizer, "lacks a tokenizer"),
    (lose_weights, "lacks weights"),
    (only_bin, "model-00001-of-00003.bin only, a format that can run foreign code"),
    (begin_download, f"lacks {SHARD}|not downloaded to the end"),
    (empty, "lacks config.json|not downloaded to the end"),
]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("change, words", REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_not_complete_is_refused_with_the_reason(offline, change, words, named):
    change(offline)
    model_id = None
    if named:
        model_id = MODEL_ID
    with pytest.raises(CourseError, match=words) as error:
        verify(offline, model_id=model_id)
    assert "\n" not in str(error.value)
    assert "notebook 03" not in str(error.value)
    assert manifest.read(offline) is None


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CourseError, match="There is no folder"):
        verify(tmp_path / "nothing")


# What a path says about the model in it


@pytest.mark.parametrize(
    "path, found",
    [
        ("models/qwen--Qwen1.5-MoE-A2.7B-Chat/snapshots/master", (REAL_MODEL_ID, "master")),
        ("models/Qwen--Qwen1.5-MoE-A2.7B-Chat/snapshots/v1.0", (REAL_MODEL_ID, "v1.0")),
        ("hub/models--Qwen--Qwen1.5-MoE-A2.7B-Chat/snapshots/" + "ab" * 20, (REAL_MODEL_ID, "master")),
        ("models/somebody--small-model/snapshots/master", ("somebody/small-model", "master")),
        ("qwen/Qwen1___5-MoE-A2___7B-Chat", (REAL_MODEL_ID, "master")),
        ("anywhere/Qwen1.5-MoE-A2.7B-Chat", (REAL_MODEL_ID, "master")),
        ("anywhere/qwen1.5-moe-a2.7b-chat", (REAL_MODEL_ID, "master")),
        ("anywhere/Qwen1.5-MoE-A2.7B", None),
        ("anywhere/real", None),
        ("somebody/small-model", None),
    ],
)
def test_the_model_that_a_path_spells(tmp_path, path, found):
    assert id_of(tmp_path / path) == found
