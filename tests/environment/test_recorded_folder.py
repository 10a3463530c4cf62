"""A record of a download is not the model: folders that are gone, half there, or whole."""

import json
import shutil
from dataclasses import replace

import pytest
from machines import AUTODL, check_lines

from helpers import EMBEDDED_MODEL, GB
from helpers.environment.model_folder import INDEX, MANIFEST, FolderState, folder_state, recorded_download


@pytest.fixture
def folder(tmp_path):
    """A whole model folder with a manifest."""
    path = tmp_path / "model"
    shutil.copytree(EMBEDDED_MODEL, path)
    files = [{"path": file.name, "size": file.stat().st_size} for file in path.iterdir() if file.is_file()]
    (path / MANIFEST).write_text(json.dumps({"files": files}))
    return path


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Record a folder as notebook 03 does."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "records"))

    def write(folder):
        content = {"model_id": "qwen/Qwen1.5-MoE-A2.7B-Chat", "revision": "master", "folder": str(folder)}
        (tmp_path / "records").mkdir()
        (tmp_path / "records/model.json").write_text(json.dumps(content))

    return write


def shard_of(folder):
    return sorted(folder.glob("*.safetensors"))[-1]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_whole_folder(with_manifest, folder):
    if not with_manifest:
        (folder / MANIFEST).unlink()
    assert folder_state(folder).state == "complete"
    assert folder_state(folder).present > 1_000_000


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (lambda folder: shutil.rmtree(folder), "gone"),
        (lambda folder: shard_of(folder).unlink(), "incomplete"),
        (lambda folder: cut(shard_of(folder)), "incomplete"),
        (lambda folder: (folder / "config.json").unlink(), "incomplete"),
        (lambda folder: (folder / MANIFEST).write_text('{"files": 7}'), "incomplete"),
    ],
)
def test_a_damaged_folder(damage, state, folder):
    damage(folder)
    assert folder_state(folder).state == state


@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (lambda folder: shard_of(folder).unlink(), "incomplete"),
        (lambda folder: (folder / "config.json").unlink(), "incomplete"),
        (lambda folder: (folder / INDEX).write_text("{"), "incomplete"),
        (lambda folder: (folder / INDEX).write_text("[]"), "incomplete"),
        (lambda folder: shard_of(folder).write_bytes(b""), "incomplete"),
        (lambda folder: shard_of(folder).write_bytes(b"no safetensors file at all"), "incomplete"),
        (lambda folder: cut(shard_of(folder)), "incomplete"),
    ],
)
def test_a_damaged_folder_without_a_manifest(damage, state, folder):
    (folder / MANIFEST).unlink()
    damage(folder)
    assert folder_state(folder).state == state


def test_a_record(folder, record):
    assert recorded_download().state == "none"
    record(folder)
    assert recorded_download().state == "complete"
    shard_of(folder).unlink()
    assert recorded_download().state == "incomplete"
    shutil.rmtree(folder)
    assert recorded_download().state == "gone"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"folder": 7}', "null"])
def test_a_damaged_record(content, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    (tmp_path / "model.json").write_text(content)
    assert recorded_download().state == "unreadable"


@pytest.mark.parametrize(
    ("state", "present_gb", "free_gb", "verdict", "says"),
    [
        ("none", 0, 49, "OK", ""),
        ("complete", 28.6, 1, "OK", ""),
        ("gone", 0, 49, "warning", "its folder is gone"),
        ("gone", 0, 20, "fail", "its folder is gone"),
        ("incomplete", 20, 20, "warning", "lacks files"),
        ("incomplete", 20, 5, "fail", "lacks files"),
        ("unreadable", 0, 49, "warning", "cannot be read"),
    ],
)
def test_what_the_check_says_of_it(state, present_gb, free_gb, verdict, says):
    download = FolderState(state, int(present_gb * GB))
    machine = replace(AUTODL, download=download, free_disk=free_gb * GB)
    line = check_lines(machine, "real")["model disk"]
    assert line.verdict == verdict
    assert says in line.repair
    assert (line.needed == "the model is there") == (state == "complete")
    if says:
        assert "helpers.download" in line.repair
