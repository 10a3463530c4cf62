"""Grade the exercises of a class: run every notebook that was handed in, and count what its checks say.

    python tests/maintenance/grade.py FOLDER [--timeout SECONDS] [--csv FILE]

FOLDER has a folder for each learner, named as the learner, with the notebooks inside (or the notebooks
themselves; then the name of the file stands for the learner). Nothing in it is changed: the notebooks run in
memory, in the folder of their edition, with the embedded model, and no outputs that came with them count.

An exercise is a cell with the tag `exercise`. It is right if a line that it prints begins with "Right:" or
"对了：". A cell that fails is named, and the cells after it are still run.

The notebooks are programs of other people, and they run with your rights: use an account or a container that
holds nothing else. A learner can also print "Right:" without the check, so read what you are going to mark.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from tqdm import tqdm

from helpers.terminal import padded, places

ROOT = Path(__file__).resolve().parents[2]
RIGHT = ("Right:", "对了：")
CHINESE_EXERCISES = re.compile(r"^## \d+\. 练习", flags=re.MULTILINE)
#: A hub that never answers, so that a notebook with DOWNLOAD_REAL_MODEL = True does not fetch 28.6 GB.
NO_HUB = "http://127.0.0.1:9"
#: How a result is shown in the table.
SIGNS = {"right": "+", "not yet": "-", "not reached": "."}


@dataclass
class Grade:
    """What became of one notebook of one learner."""

    learner: str
    notebook: str
    results: list[str]  # for each exercise: right, not yet or not reached
    crash: str  # the cell that failed, and why; "" if none did

    @property
    def right(self) -> int:
        """How many exercises are right."""
        return self.results.count("right")


def handed_in(folder: Path) -> list[Path]:
    """The notebooks below a folder; copies that JupyterLab keeps for itself are left out."""
    found = []
    for path in sorted(folder.rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            found.append(path)
    return found


def learner_of(path: Path, folder: Path) -> str:
    """The folder in which a notebook lies, or its own name if that is `folder` itself."""
    place = path.relative_to(folder).parent
    if place == Path("."):
        return path.stem
    return place.as_posix()


def edition_of(notebook: nbformat.NotebookNode) -> str:
    """`en` or `zh`, by the heading above the exercises."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and CHINESE_EXERCISES.search(cell.source):
            return "zh"
    return "en"


def environment(cache: str) -> dict[str, str]:
    """Settings of the kernel: the embedded model, no GPU, no download, one thread."""
    settings = {
        "COURSE_MODEL": "embedded",
        "COURSE_LANG": "",
        "COURSE_CACHE": cache,
        "MODELSCOPE_CACHE": cache,
        "MODELSCOPE_ENDPOINT": NO_HUB,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    return os.environ | settings


def printed(cell: nbformat.NotebookNode) -> str:
    """Everything that a cell printed."""
    streams = [output for output in cell.outputs if output.output_type == "stream"]
    return "".join(stream.text for stream in streams if stream.name == "stdout")


def result_of(cell: nbformat.NotebookNode, is_reached: bool) -> str:
    """What the check of an exercise said."""
    if not is_reached:
        return "not reached"
    if any(line.startswith(RIGHT) for line in printed(cell).splitlines()):
        return "right"
    return "not yet"


def first_crash(notebook: nbformat.NotebookNode) -> str:
    """The first cell that raised an error, text cells counted too, and the error; "" if none did."""
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"cell {number}: {output.ename}: {output.evalue}"
    return ""


def run(notebook: nbformat.NotebookNode, timeout: float) -> tuple[int, str]:
    """Run all cells in place. Returns how many were begun, and what ended the run before its end, or ""."""
    deadline = time.monotonic() + timeout
    begun = []
    client = NotebookClient(
        notebook,
        timeout_func=lambda cell: max(1, deadline - time.monotonic()),
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "notebooks" / edition_of(notebook))}},
        allow_errors=True,
        store_widget_state=False,
        on_cell_start=lambda cell, cell_index: begun.append(cell_index),
    )
    end = ""
    with tempfile.TemporaryDirectory() as cache:
        try:
            client.execute(env=environment(cache), stderr=subprocess.DEVNULL)
        except CellTimeoutError:
            end = f"cell {begun[-1] + 1}: the {timeout:g} seconds of the notebook were over"
        except DeadKernelError:
            end = f"cell {begun[-1] + 1}: the kernel died"
    if end:
        return begun[-1], end
    return len(notebook.cells), ""


def grade(path: Path, folder: Path, timeout: float) -> Grade:
    """Run one notebook in memory and read what its checks say."""
    learner = learner_of(path, folder)
    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError:
        return Grade(learner, path.stem, [], "the file is damaged: ask for it again")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # what was printed elsewhere is no result
    reached, end = run(notebook, timeout)
    results = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and "exercise" in cell.metadata.get("tags", []):
            results.append(result_of(cell, number < reached))
    return Grade(learner, path.stem, results, first_crash(notebook) or end)


def rows(grades: list[Grade]) -> list[list[str]]:
    """The table: a row for each notebook of a learner, a column for each exercise."""
    longest = max(len(grade.results) for grade in grades)
    head = ["learner", "notebook", *(str(number) for number in range(1, longest + 1)), "right", "failed"]
    table = [head]
    for grade in grades:
        signs = [SIGNS[result] for result in grade.results]
        signs += [""] * (longest - len(signs))
        count = f"{grade.right} of {len(grade.results)}"
        table.append([grade.learner, grade.notebook, *signs, count, grade.crash])
    return table


def print_table(table: list[list[str]]) -> None:
    """Columns one below the other, without the last: what failed stands below the table."""
    columns = list(zip(*table, strict=True))[:-1]
    widths = [max(places(entry) for entry in column) for column in columns]
    for row in table:
        entries = [padded(entry, width) for entry, width in zip(row[:-1], widths, strict=True)]
        print("  ".join(entries).rstrip())
    print("+ right, - not yet, . not reached")
    for row in table[1:]:
        if row[-1]:
            print(f"{row[0]}, {row[1]}: {row[-1]}")


def main(arguments: list[str] | None = None) -> int:
    """Grade a folder; 1 if it holds no notebook."""
    parser = argparse.ArgumentParser(description="Run the notebooks of a class and count right exercises.")
    parser.add_argument("folder", type=Path, help="a folder for each learner, with notebooks inside")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for a notebook, default 1800")
    parser.add_argument("--csv", type=Path, default=Path("grades.csv"), help="default: grades.csv")
    options = parser.parse_args(arguments)
    paths = handed_in(options.folder)
    if not paths:
        print(f"There is no notebook in {options.folder}: name the folder with what was handed in.")
        return 1
    grades = []
    for path in tqdm(paths, unit="notebook", file=sys.stderr):
        grades.append(grade(path, options.folder, options.timeout))
    table = rows(grades)
    print_table(table)
    with options.csv.open("w", encoding="utf-8-sig", newline="") as file:  # the BOM is for Excel
        csv.writer(file).writerows(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
