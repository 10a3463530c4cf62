"""A model whose layers lie in two places answers like a model in one place.

The two places stand for two GPUs. They are RAM and disk here, because a machine without GPUs has no others:
accelerate moves data between them with the hooks that it also uses between GPUs.
"""

import os
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import EMBEDDED_MODEL
from helpers.inference import encode_chat, stream_chat

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "en" / "04_inference.ipynb"
LAYERS = 4
PATIENCE = 600  # seconds a cell may take: a safety net far from the usual time
QUESTIONS = ["Give me a short introduction to large language model.", "简单介绍一下大语言模型", "3 + 4?"]

# The second place is the disk, for the second half of the layers and what follows them.
TWO_PLACES = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu"}
for number in range(LAYERS):
    TWO_PLACES[f"model.layers.{number}"] = "cpu"
    if number >= LAYERS // 2:
        TWO_PLACES[f"model.layers.{number}"] = "disk"
TWO_PLACES["model.norm"] = "disk"
TWO_PLACES["lm_head"] = "disk"

# Runs before the notebook's first cell: its own `device_map="auto"` then finds two places.
PATCH = """
import transformers

load_in_one_place = transformers.AutoModelForCausalLM.from_pretrained


def load_in_two_places(folder, **options):
    assert options.pop("device_map") == "auto"
    return load_in_one_place(folder, device_map={places}, offload_folder={folder!r}, **options)


transformers.AutoModelForCausalLM.from_pretrained = load_in_two_places
"""


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED_MODEL)


@pytest.fixture(scope="module")
def one_place():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL, dtype=torch.bfloat16, device_map="auto")


@pytest.fixture(scope="module")
def two_places(tmp_path_factory):
    options = {"device_map": TWO_PLACES, "offload_folder": str(tmp_path_factory.mktemp("disk"))}
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL, dtype=torch.bfloat16, **options)


def test_the_model_is_really_split(one_place, two_places):
    assert one_place.config.num_hidden_layers == LAYERS
    assert set(two_places.hf_device_map.values()) == {"cpu", "disk"}
    assert {parameter.device.type for parameter in two_places.parameters()} == {"cpu", "meta"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_greedy_tokens_are_the_same(one_place, two_places, tokenizer, question):
    inputs = encode_chat(tokenizer, [{"role": "user", "content": question}])
    options = {"max_new_tokens": 60, "do_sample": False}
    assert torch.equal(one_place.generate(**inputs, **options), two_places.generate(**inputs, **options))


def test_the_stream_is_the_same(one_place, two_places, tokenizer):
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    options = {"max_new_tokens": 60, "do_sample": False}
    pieces = list(stream_chat(one_place, tokenizer, messages, **options))
    assert pieces
    assert list(stream_chat(two_places, tokenizer, messages, **options)) == pieces


def texts(cell) -> list[str]:
    """What a code cell printed."""
    return [output.text for output in cell.outputs if output.get("name") == "stdout"]


def test_notebook_04_says_the_same_on_two_places(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COURSE_MODEL", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{NOTEBOOK.parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    stored = nbformat.read(NOTEBOOK, as_version=4)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    patch = PATCH.format(places=TWO_PLACES, folder=str(tmp_path / "disk"))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(patch))
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", coalesce_streams=True).execute()

    del notebook.cells[0]  # the patch
    compared = 0
    for before, after in zip(stored.cells, notebook.cells, strict=True):
        if before.cell_type != "code" or "print_versions" in before.source:
            continue
        if "nbval-ignore-output" in before.metadata.get("tags", []):
            continue  # times, and what hangs on how a processor rounds
        if "hf_device_map" in before.source:
            assert "'model.layers.3': 'disk'" in "".join(texts(after))
            continue
        assert texts(before) == texts(after), before.source
        if texts(before):
            compared += 1
    assert compared >= 12
