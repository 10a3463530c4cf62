"""The notebook test can fail: a copy of a notebook with a fault in it turns the run red."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "notebooks" / "en" / "04_inference.ipynb"


def first_cells(count):
    """The start of notebook 04, up to its `count`-th code cell that printed something."""
    notebook = nbformat.read(SOURCE, as_version=4)
    with_text = [
        i for i, cell in enumerate(notebook.cells) if any("text" in o for o in cell.get("outputs", []))
    ]
    notebook.cells = notebook.cells[: with_text[count - 1] + 1]
    return notebook


def run_nbval(folder, notebook):
    """Run pytest on the notebook with the course's own settings; returns (exit code, output, seconds)."""
    nbformat.write(notebook, folder / "copy.ipynb")
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder / "conftest.py")
    started = time.monotonic()
    options = ["-q", "-p", "no:cacheprovider", f"--nbval-sanitize-with={ROOT / 'tests' / 'sanitize.cfg'}"]
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *options, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return result.returncode, result.stdout + result.stderr, time.monotonic() - started


def test_unchanged_copy_is_green(tmp_path):
    code, output, _ = run_nbval(tmp_path, first_cells(2))
    assert code == 0, output


def test_changed_output_is_red(tmp_path):
    notebook = first_cells(2)
    stored = next(o for o in notebook.cells[-1].outputs if "text" in o)
    stored.text = stored.text.replace("e", "3", 1)
    code, output, _ = run_nbval(tmp_path, notebook)
    assert code == 1 and "Cell outputs differ" in output


def test_raised_error_is_red(tmp_path):
    notebook = first_cells(1)
    notebook.cells[-1].source += "\nraise ValueError('a fault planted by the test')"
    code, output, _ = run_nbval(tmp_path, notebook)
    assert code == 1 and "a fault planted by the test" in output


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_extra_output_is_red(tmp_path, name):
    notebook = first_cells(1)
    notebook.cells[-1].source += f"\nimport sys; print('one line more', file=sys.{name})"
    code, output, _ = run_nbval(tmp_path, notebook)
    assert code == 1 and ("one line more" in output or "Unexpected output" in output)


def test_dead_kernel_is_red_and_quick(tmp_path):
    notebook = first_cells(1)
    notebook.cells[-1].source += "\nimport os; os._exit(1)"
    code, output, seconds = run_nbval(tmp_path, notebook)
    assert code == 1 and "the kernel died" in output
    assert seconds < 60, "reported when it dies, not when the cell's time is up (120 s)"
