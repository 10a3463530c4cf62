"""Storing the outputs twice gives the same file, byte for byte, and the same as the committed one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "en" / "04_inference.ipynb"


def store(path):
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "maintenance" / "store_outputs.py"), str(path)],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "notebooks" / "en"
    folder.mkdir(parents=True)
    return Path(shutil.copy(NOTEBOOK, folder))


def test_storing_again_changes_nothing(copy):
    assert store(copy).returncode == 0
    first = copy.read_bytes()
    assert store(copy).returncode == 0
    assert copy.read_bytes() == first


def test_a_failing_notebook_is_not_written(copy):
    notebook = nbformat.read(copy, as_version=4)
    notebook.cells[1].source = "raise ValueError('a fault planted by the test')"
    nbformat.write(notebook, copy)
    before = copy.read_bytes()
    result = store(copy)
    assert result.returncode == 1 and "a fault planted by the test" in result.stderr
    assert copy.read_bytes() == before


def test_a_notebook_that_depends_on_the_processor_is_not_written(copy):
    notebook = nbformat.v4.new_notebook()
    source = "import os\nprint(os.environ.get('ONEDNN_MAX_CPU_ISA', 'nothing set'))"
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(notebook, copy)
    before = copy.read_bytes()
    result = store(copy)
    assert result.returncode == 1 and "'oldest' cell 0 differs" in result.stderr
    assert copy.read_bytes() == before


def test_it_says_with_what_the_outputs_were_made(copy):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")])
    nbformat.write(notebook, copy)
    assert "Made with " in store(copy).stdout


@pytest.mark.parametrize("edition", ["en", "zh"])
def test_each_edition_is_stored_in_its_language(tmp_path, edition):
    path = tmp_path / "notebooks" / edition / "planted.ipynb"
    path.parent.mkdir(parents=True)
    source = "from helpers.language import language\nprint(language())"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path / "notebooks")
    result = store(path)
    assert result.returncode == 0, result.stderr
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].text == f"{edition}\n"
