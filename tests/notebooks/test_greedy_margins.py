"""Every greedy answer that a notebook stores has room: no token of it was chosen by a hair's breadth.

The stored answers must be the same on every processor, and processors round bf16 numbers at different places.
The sweep (tests/maintenance/sweep.py) shows that the answers are equal for the settings that one machine
can try. This test holds the reason: the smallest margin between first and second choice along each answer.
"""

import json
import os
from pathlib import Path

import nbformat
import pytest
from edition_files import ENGLISH, notebook_pairs, own_examples
from nbclient import NotebookClient
from transformers import AutoTokenizer

from helpers import EMBEDDED_MODEL

HERE = Path(__file__).parent
#: The English edition: the Chinese one asks the same, which test_editions.py holds, except where it has an
#: example of its own.
NOTEBOOKS = sorted(ENGLISH.glob("*.ipynb"))
NOTEBOOKS += [chinese for english, chinese in notebook_pairs() if own_examples(english.stem)]
#: In units of the logits. bf16 keeps 8 bits: a logit between 8 and 16 is a multiple of 1/16, from 16 to
#: 32 of 1/8. Two that are rounded apart differ by that much, so a smaller lead can turn round.
LIMIT = 0.25


def greedy_answers(notebook: nbformat.NotebookNode, folder: Path, tmp_path: Path) -> list[dict]:
    """Run a notebook and return what `greedy_margins.watch` wrote down."""
    report = tmp_path / "margins.jsonl"
    start = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\nfrom pathlib import Path\n"
        f"import greedy_margins; greedy_margins.watch(Path({str(report)!r}))"
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
    if not report.is_file():
        return []
    return [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def a_learner_without_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_MODEL", "")
    monkeypatch.setenv("COURSE_LANG", "")  # the folder decides
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    python_path = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, python_path)))


def generates(path: Path) -> bool:
    """Whether a code cell of the notebook lets the model answer."""
    cells = nbformat.read(path, as_version=4).cells
    code = "".join(cell.source for cell in cells if cell.cell_type == "code")
    return ".generate(" in code or "stream_chat(" in code


ASKED = [path for path in NOTEBOOKS if generates(path)]


@pytest.mark.parametrize("path", ASKED, ids=[f"{path.parent.name}/{path.stem}" for path in ASKED])
def test_no_stored_answer_was_chosen_by_a_hair(path, tmp_path):
    # In a folder of its own: while this test runs, the notebook itself may be running in its folder.
    folder = tmp_path / "notebooks" / path.parent.name
    folder.mkdir(parents=True)
    answers = greedy_answers(nbformat.read(path, as_version=4), folder, tmp_path)
    assert answers, f"{path.stem} generates, but no greedy answer was seen"
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_MODEL)
    for answer in answers:
        answer["text"] = tokenizer.decode(answer.pop("tokens"))[:60]
    answers.sort(key=lambda answer: answer["margin"])
    print(f"{path.stem}: {len(answers)} greedy answers, the closest: {answers[:3]}")
    close = [answer for answer in answers if answer["margin"] < LIMIT]
    assert not close, f"ask something else in these cells, or show less of the answer: {close}"


def test_a_close_choice_is_found(tmp_path):
    source = """
import torch
from transformers import AutoModelForCausalLM
from helpers import EMBEDDED_MODEL
model = AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL)
with torch.no_grad():
    model.lm_head.weight[7] = model.lm_head.weight[8] = model.lm_head.weight.abs().max(0).values
ids = torch.tensor([[5, 6, 7]])
model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False)
model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=True)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    answers = greedy_answers(notebook, tmp_path, tmp_path)
    assert len(answers) == 1, "the sampled answer is not a greedy one"
    assert answers[0]["margin"] < 30
