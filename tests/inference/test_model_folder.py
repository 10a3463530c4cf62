"""The files of a model folder: what is missing or damaged is said before anything is loaded."""

import shutil

import pytest

from helpers import CourseError
from helpers.inference import load
from helpers.inference.model_folder import weights_bytes


def test_weights_bytes_is_the_sum_of_the_shards(folder):
    shards = list(folder.glob("*.safetensors"))
    assert len(shards) >= 3
    assert weights_bytes(folder) == sum(path.stat().st_size for path in shards)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model-00001-of-00003.safetensors"])
def test_a_missing_file_is_named(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(CourseError, match=missing):
        load(copy)


def test_a_truncated_shard_is_refused_with_the_figures(copy):
    shard = copy / "model-00001-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(CourseError, match="bytes of weights"):
        load(copy)


def test_pickled_weights_alone_are_refused(tmp_path, folder):
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(folder / "tokenizer.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(CourseError, match=r"model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": {}}'])
def test_a_damaged_index_is_refused(copy, text):
    (copy / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CourseError, match="damaged"):
        load(copy)
