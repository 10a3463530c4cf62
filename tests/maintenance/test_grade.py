"""Grading counts what the checks print when the notebook runs here, and names a notebook that fails."""

import csv

import grade
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

EXERCISE = {"tags": ["exercise"]}
STORED = new_output("stream", name="stdout", text="Right: it says so in the file\n")


def hand_in(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)


def exercise(source, outputs=()):
    return new_code_cell(source, metadata=EXERCISE, outputs=list(outputs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ann gets one of two right and has a cell that fails, 小明 hangs after one; Bob sends something else."""
    folder = tmp_path_factory.mktemp("class")
    hand_in(
        folder / "ann" / "01_tiny.ipynb",
        new_markdown_cell("## 9. Exercises"),
        new_code_cell("1 / 0"),
        exercise("import os\nprint('in', os.path.basename(os.getcwd()))\nprint('Right: indeed.')"),
        exercise("print('Not yet: think again.')", [STORED]),
    )
    hand_in(
        folder / "小明" / "01_tiny.ipynb",
        new_markdown_cell("## 9. 练习"),
        exercise("import os\nassert os.path.basename(os.getcwd()) == 'zh'\nprint('对了：很好。')"),
        new_code_cell("import os\nos._exit(1)"),
        exercise("print('对了：到不了这里。')", [STORED]),
    )
    (folder / "bob.ipynb").write_text("a poem", encoding="utf-8")
    return folder


def test_a_class_is_graded_and_its_files_stay(folder, tmp_path, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.ipynb")}
    assert grade.main([str(folder), "--csv", str(tmp_path / "grades.csv")]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.ipynb")} == before
    with (tmp_path / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["learner", "notebook", "1", "2", "right", "failed"]
    by_learner = {row[0]: row[1:] for row in table[1:]}
    assert by_learner["ann"] == ["01_tiny", "+", "-", "1 of 2", "cell 2: ZeroDivisionError: division by zero"]
    assert by_learner["小明"] == ["01_tiny", "+", ".", "1 of 2", "cell 3: the kernel died"]
    assert by_learner["bob"][:4] == ["bob", "", "", "0 of 0"]
    assert "ann, 01_tiny: cell 2: ZeroDivisionError" in capsys.readouterr().out


def test_a_notebook_that_hangs_is_ended():
    sleep = new_code_cell("import time\ntime.sleep(3600)")
    reached, end = grade.run(new_notebook(cells=[sleep, exercise("print('Right: never.')")]), timeout=1)
    assert reached == 0
    assert end == "cell 1: the 1 seconds of the notebook were over"


def test_a_folder_without_notebooks_is_refused(tmp_path, capsys):
    assert grade.main([str(tmp_path)]) == 1
    assert "There is no notebook in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Right: yes.\n", "right"),
        ("a print of mine\n对了：很好。\n", "right"),
        ("Not yet: Right: is not enough.\n", "not yet"),
        ("", "not yet"),
    ],
)
def test_a_line_must_begin_with_the_verdict(text, result):
    cell = exercise("", [new_output("stream", name="stdout", text=text)])
    assert grade.result_of(cell, is_reached=True) == result
    assert grade.result_of(cell, is_reached=False) == "not reached"
