"""Links inside a notebook lead to a heading, whose anchor in JupyterLab is its text with hyphens."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*/*.ipynb"))


def lost_links(notebook: nbformat.NotebookNode) -> set[str]:
    """Links to a place in this notebook at which there is no heading."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    linked = set(re.findall(r"\]\(#([^)]+)\)", text))
    anchors = {heading.strip().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, flags=re.M)}
    return linked - anchors


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_inner_links(path):
    assert not lost_links(nbformat.read(path, as_version=4))


def test_a_lost_link_is_found():
    sources = ["## 1. Here it is", "[there](#1.-Here-it-is), [nowhere](#2.-Gone)"]
    cells = [nbformat.v4.new_markdown_cell(source) for source in sources]
    assert lost_links(nbformat.v4.new_notebook(cells=cells)) == {"2.-Gone"}
