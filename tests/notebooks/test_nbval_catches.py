"""The notebook test can fail: a copy of a notebook with a fault in it turns the run red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SAFETY_NET = 1800  # seconds; a run takes about ten
SOURCE = ROOT / "notebooks" / "en" / "04_inference.ipynb"


def first_cells(count):
    """The start of notebook 04, up to its `count`-th code cell that printed something."""
    notebook = nbformat.read(SOURCE, as_version=4)
    with_text = [
        i for i, cell in enumerate(notebook.cells) if any("text" in o for o in cell.get("outputs", []))
    ]
    notebook.cells = notebook.cells[: with_text[count - 1] + 1]
    return notebook


def run_nbval(folder, notebook, edition="en"):
    """Run pytest on the notebook with the course's own settings; returns (exit code, output)."""
    place = folder / "notebooks" / edition
    place.mkdir(parents=True)
    nbformat.write(notebook, place / "copy.ipynb")
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder / "notebooks" / "conftest.py")
    options = ["-q", "-p", "no:cacheprovider", f"--nbval-sanitize-with={ROOT / 'tests' / 'sanitize.cfg'}"]
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *options, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SAFETY_NET,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return result.returncode, result.stdout + result.stderr


def test_unchanged_copy_is_green(tmp_path):
    code, output = run_nbval(tmp_path, first_cells(2))
    assert code == 0, output


def test_changed_output_is_red(tmp_path):
    notebook = first_cells(2)
    stored = next(o for o in notebook.cells[-1].outputs if "text" in o)
    stored.text = stored.text.replace("e", "3", 1)
    code, output = run_nbval(tmp_path, notebook)
    assert code == 1 and "Cell outputs differ" in output


def test_raised_error_is_red(tmp_path):
    notebook = first_cells(1)
    notebook.cells[-1].source += "\nraise ValueError('a fault planted by the test')"
    code, output = run_nbval(tmp_path, notebook)
    assert code == 1 and "a fault planted by the test" in output


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_extra_output_is_red(tmp_path, name):
    notebook = first_cells(1)
    notebook.cells[-1].source += f"\nimport sys; print('one line more', file=sys.{name})"
    code, output = run_nbval(tmp_path, notebook)
    assert code == 1 and ("one line more" in output or "Unexpected output" in output)


def test_dead_kernel_is_red_at_once(tmp_path):
    """Reported as what it is. nbval alone would wait until the cell's time is up, and call it a timeout."""
    notebook = first_cells(1)
    notebook.cells[-1].source += "\nimport os; os._exit(1)"
    code, output = run_nbval(tmp_path, notebook)
    assert code == 1 and "the kernel died" in output
    assert "Timeout of" not in output


SAY = "from helpers.language import language\nprint(language())"


@pytest.mark.parametrize("edition", ["en", "zh"])
def test_each_edition_runs_in_its_language(tmp_path, edition):
    """Also where the terminal, or the test that started pytest, has another one."""
    notebook = nbformat.v4.new_notebook()
    for number, source in enumerate((SAY, "import os\nprint(os.path.basename(os.getcwd()))"), start=1):
        cell = nbformat.v4.new_code_cell(source, execution_count=number)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{edition}\n")]
        notebook.cells.append(cell)
    code, output = run_nbval(tmp_path, notebook, edition)
    assert code == 0, output
    notebook.cells[0].outputs[0].text = "another\n"
    code, output = run_nbval(tmp_path / "again", notebook, edition)
    assert code == 1 and "Cell outputs differ" in output
