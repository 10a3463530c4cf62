"""No output that is compared comes from measured times: they depend on the machine and on its other work."""

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))
# What returns measured times: functions of helpers.speed and of `time`, and attributes of their results.
CLOCKS = {"measure", "compare", "profile_step", "perf_counter", "monotonic"}
ATTRIBUTES = {"perf_counter", "monotonic", "tokens_per_second", "first_token_seconds", "first_text"}
# Cells that use such a value and yet print the same on every machine, by their ids.
SAME_EVERYWHERE = {
    "c10c5a04": "counts the times",
    "5a10c0d2": "a sleep makes each token take a tenth of a second at least",
    "d78c4c29": "counts operations",
    "bd727107": "compares tokens",
}


def names_read_by(statement: ast.AST) -> set[str]:
    """The names that a statement reads from what is before it, and the attributes that hold times."""
    read = set()
    own = set()  # what a loop or a function sets itself
    for part in ast.walk(statement):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            read.add(part.id)
        elif isinstance(part, ast.Name):
            own.add(part.id)
        elif isinstance(part, ast.arg):
            own.add(part.arg)
        elif isinstance(part, ast.Attribute) and part.attr in ATTRIBUTES:
            read.add(part.attr)
    if isinstance(statement, ast.For | ast.FunctionDef | ast.ClassDef):
        return read - own
    return read


def names_set_by(statement: ast.stmt) -> set[str]:
    """The names that have another value after a statement."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    found = set()
    for part in ast.walk(statement):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
            found |= names_read_by(part.value)  # an entry of a dictionary or list
    return found


def cells_that_show_times(cells: list) -> list[str]:
    """The ids of the compared cells that print something computed from measured times."""
    timed = set(ATTRIBUTES)
    found = []
    for cell in cells:
        if cell.cell_type != "code":
            continue
        shows = False
        for statement in ast.parse(cell.source).body:
            if isinstance(statement, ast.ImportFrom):
                timed |= {alias.name for alias in statement.names} & CLOCKS
                continue
            used = names_read_by(statement)
            if used & timed:
                timed |= names_set_by(statement)
                if "print" in used or isinstance(statement, ast.Expr):
                    shows = True
            else:
                timed -= names_set_by(statement)
        is_compared = "nbval-ignore-output" not in cell.metadata.get("tags", [])
        if shows and cell.outputs and is_compared:
            found.append(cell.id)
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_measured_time_is_compared(path):
    cells = nbformat.read(path, as_version=4).cells
    assert set(cells_that_show_times(cells)) <= SAME_EVERYWHERE.keys()


def test_the_exceptions_are_still_there():
    shown = set()
    for path in NOTEBOOKS:
        shown |= set(cells_that_show_times(nbformat.read(path, as_version=4).cells))
    assert shown == SAME_EVERYWHERE.keys()


PLANTED = """
from helpers.speed import measure
speed = measure(model, inputs)
rates = {}
rates[1] = speed.per_token
print(rates[1] > 2)
"""
HARMLESS = """
from helpers.speed import measure
speed = measure(model, inputs)
speed = 3
def measure(ids): return len(ids)
print(speed, measure([1]))
"""


@pytest.mark.parametrize(("code", "is_found"), [(PLANTED, True), (HARMLESS, False)])
def test_a_planted_time_is_found(code, is_found):
    cell = nbformat.v4.new_code_cell(code, outputs=[nbformat.v4.new_output("stream", text="True")])
    assert bool(cells_that_show_times([cell])) == is_found
