"""What every test of the download starts from."""

import pytest
from stage import MODEL_ID, Stage, make_model

from helpers.download import download
from helpers.download.local_hub import LocalHub


@pytest.fixture
def stage(tmp_path):
    """A hub with faults, and the command in processes of its own."""
    stage = Stage(tmp_path)
    with stage.hub:
        yield stage


@pytest.fixture
def source(tmp_path):
    """A small model, as it lies on the hub."""
    return make_model(tmp_path / "source", 100_000)


@pytest.fixture
def local_hub(source, monkeypatch, tmp_path):
    """A hub without faults, for calls in this process."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "record"))
    monkeypatch.delenv("MODELSCOPE_CACHE", raising=False)
    with LocalHub(source, MODEL_ID) as server:
        yield server


@pytest.fixture
def folder(local_hub, tmp_path):
    """The small model, downloaded."""
    return download(MODEL_ID, cache_dir=tmp_path / "cache")
