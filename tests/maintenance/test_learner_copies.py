"""Copies for a class hold no solution and no output, and run to their end with empty starters."""

import json
import os
from pathlib import Path

import learner_copies
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
EDITIONS = [edition for edition in ("en", "zh") if (ROOT / "notebooks" / edition).is_dir()]
SHORT = "03_download.ipynb"  # runs in seconds


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    for edition in EDITIONS:
        assert learner_copies.write_copies(ROOT / "notebooks" / edition, folder / edition) > 0
    return folder


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


@pytest.mark.parametrize("edition", EDITIONS)
def test_only_solutions_and_outputs_are_missing(copies, edition):
    for source in (ROOT / "notebooks" / edition).glob("*.ipynb"):
        before = json.loads(source.read_text(encoding="utf-8"))["cells"]
        after = json.loads((copies / edition / source.name).read_text(encoding="utf-8"))["cells"]
        kept = [cell for cell in before if "solution" not in tags(cell)]
        assert len(kept) < len(before)
        assert [cell["source"] for cell in after] == [cell["source"] for cell in kept]
        assert all(not cell.get("outputs") for cell in after)
        assert sum("exercise" in tags(cell) for cell in after) >= 3


def test_a_copy_runs_with_empty_starters(copies, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_MODEL", "")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(copies / "en" / SHORT, as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    starters = [cell for cell in notebook.cells if "exercise" in tags(cell)]
    assert starters
    for starter in starters:
        said = "".join(output.get("text", "") for output in starter.outputs)
        assert said.startswith("Not yet")
