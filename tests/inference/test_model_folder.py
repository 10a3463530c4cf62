"""The files of a model folder: what is missing or damaged is said before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from inference_samples import record_folder
from safetensors.torch import load_file, save_file

from helpers import EMBEDDED_MODEL, CourseError
from helpers.inference import load
from helpers.inference.model_folder import INDEX, weights_bytes

FIRST = "model-00001-of-00003.safetensors"


def refusal(folder: Path) -> str:
    """The one sentence with which `load` refuses a folder."""
    with pytest.raises(CourseError) as error:
        load(folder)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert str(folder.parent) not in sentence
    return sentence


def change_index(folder: Path, change) -> None:
    """Write the index again after `change` was called with it."""
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def test_weights_bytes_is_the_sum_of_the_shards(folder):
    shards = list(folder.glob("*.safetensors"))
    assert len(shards) >= 3
    assert weights_bytes(folder) == sum(path.stat().st_size for path in shards)


# What other tools make is fine when the weights are right.


@pytest.mark.parametrize("total_size", [None, 0, 1, 10**15, -5, "many", [], 1.5])
def test_a_wrong_total_size_in_the_index_does_not_matter(copy, total_size):
    def set_total_size(index: dict) -> None:
        index["metadata"]["total_size"] = total_size

    change_index(copy, set_total_size)
    assert load(copy)


def test_an_index_without_total_size_is_fine(copy):
    change_index(copy, lambda index: index["metadata"].clear())
    assert load(copy)


@pytest.mark.parametrize("metadata", [None, "none", []])
def test_an_index_without_metadata_says_what_to_add(copy, metadata):
    """transformers does not load such a folder either, and says only KeyError: 'metadata'."""

    def set_metadata(index: dict) -> None:
        index["metadata"] = metadata

    change_index(copy, set_metadata)
    assert 'add "metadata": {}' in refusal(copy)
    change_index(copy, lambda index: index.pop("metadata"))
    assert 'add "metadata": {}' in refusal(copy)


def test_one_file_of_weights_comes_before_an_index(copy):
    """As in transformers, which then does not look at the index."""
    tensors = {}
    for path in sorted(copy.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert (copy / INDEX).is_file()
    assert weights_bytes(copy) == (copy / "model.safetensors").stat().st_size
    assert load(copy)
    (copy / INDEX).unlink()
    assert load(copy)


@pytest.mark.parametrize("kind", ["vocab.json and merges.txt", "tokenizer.model", "vocab.txt", "x.tiktoken"])
def test_a_tokenizer_may_be_of_several_kinds(copy, kind):
    (copy / "tokenizer.json").unlink()
    for name in kind.split(" and "):
        (copy / name).write_text("")
    assert weights_bytes(copy)


# What is missing, cut off or damaged.


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", FIRST])
def test_a_missing_file_is_named(copy, missing):
    (copy / missing).unlink()
    assert f"incomplete (no {missing})" in refusal(copy)


def test_a_missing_folder_is_named(tmp_path):
    assert "no model folder nowhere" in refusal(tmp_path / "nowhere")


def test_merges_belong_to_a_vocabulary(copy):
    (copy / "tokenizer.json").rename(copy / "vocab.json")
    assert "no merges.txt" in refusal(copy)


@pytest.mark.parametrize("cut", [0, 5, 8, 100, -1])
def test_a_truncated_shard_is_refused_with_the_figures(copy, cut):
    content = (copy / FIRST).read_bytes()
    (copy / FIRST).write_bytes(content[:cut])
    sentence = refusal(copy)
    assert FIRST in sentence
    assert f"{len(content[:cut]):,}" in sentence
    if cut == -1:
        assert f"{len(content) - 1:,} of {len(content):,} bytes" in sentence


def test_a_shard_that_is_too_long_is_damaged(copy):
    with (copy / FIRST).open("ab") as file:
        file.write(b"x")
    assert f"{FIRST} of the model folder copy is damaged" in refusal(copy)


@pytest.mark.parametrize(
    "start", [b"\xff" * 16, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{x", b"\0" * 16]
)
def test_a_damaged_header_is_one_sentence(copy, start):
    content = (copy / FIRST).read_bytes()
    (copy / FIRST).write_bytes(start + content[len(start) :])
    assert FIRST in refusal(copy)


def test_shards_that_changed_places_are_noticed(copy):
    second = copy / "model-00002-of-00003.safetensors"
    shutil.move(copy / FIRST, copy / "aside")
    shutil.move(second, copy / FIRST)
    shutil.move(copy / "aside", second)
    assert "damaged" in refusal(copy)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "null", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": null}', "\udcff"],
)
def test_a_damaged_index_is_refused(copy, text):
    (copy / INDEX).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert f"{INDEX} of the model folder copy is damaged" in refusal(copy)


# Weights of another kind.


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pytorch_model.bin"], "only there as pytorch_model.bin, a pickle"),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"], "a pickle"),
        (["consolidated.00.pth"], "consolidated.00.pth, a pickle"),
        (
            ["qwen1_5-moe-a2.7b-chat-q4_k_m.gguf"],
            "holds qwen1_5-moe-a2.7b-chat-q4_k_m.gguf, but no safetensors",
        ),
        (["tf_model.h5"], "holds tf_model.h5, but no safetensors"),
        (["model-00001-of-00002.safetensors"], f"1 safetensors files, but no {INDEX}"),
        ([], f"no model.safetensors and no {INDEX}"),
    ],
)
def test_weights_of_another_kind_are_named(folder, tmp_path, names, words):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    for name in names:
        (tmp_path / name).write_bytes(b"anything")
    assert words in refusal(tmp_path)


def test_a_pointer_of_git_lfs_is_no_shard(copy):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3999614664\n"
    (copy / FIRST).write_text(pointer)
    assert "git lfs pull" in refusal(copy)


# Who made the folder decides what to do.


def test_notebook_03_is_named_only_for_the_folder_that_it_recorded(copy):
    (copy / FIRST).unlink()
    assert "notebook" not in refusal(copy)
    record_folder(copy.parent / "another")
    assert "notebook" not in refusal(copy)
    record_folder(copy)
    assert "run notebook 03 again" in refusal(copy)


def test_the_embedded_model_comes_from_the_course(monkeypatch, tmp_path):
    broken = tmp_path / "embedded_model"
    shutil.copytree(EMBEDDED_MODEL, broken, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    next(broken.glob("*.safetensors")).unlink()
    monkeypatch.setattr("helpers.inference.model_folder.EMBEDDED_MODEL", broken)
    assert "restore it from the course" in refusal(broken)


def test_a_dtype_of_another_kind_is_loaded_in_bf16(copy):
    for path in copy.glob("*.safetensors"):
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    assert load(copy)[0].dtype == torch.bfloat16
