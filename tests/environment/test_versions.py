"""Versions: specifiers, the printed table, and code that an old Python can read."""

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from helpers.environment import print_versions, satisfies

ROOT = Path(__file__).resolve().parents[2]
OLD_PYTHON = [*(ROOT / "helpers/environment").glob("*.py"), ROOT / "helpers/__init__.py"]
OLD_PYTHON += [
    ROOT / f"helpers/{name}.py" for name in ("settings", "compat", "model_names", "language", "terminal")
]


@pytest.mark.parametrize("specifier", ["==5.23.0", ">=2.9,<2.14", ">=6.29,!=7.0.*", ">=4.2,<5", "<2.12"])
@pytest.mark.parametrize(
    "version",
    ["5.23.0", "5.23.1", "2.9", "2.8.9", "2.9.0", "2.13.1", "2.14.0", "7.0.1", "7.1.0", "6.29.5", "5.0"],
)
def test_satisfies_agrees_with_packaging(version, specifier):
    assert satisfies(version, specifier) == SpecifierSet(specifier).contains(version)


def test_satisfies_local_and_missing_versions():
    assert satisfies("2.13.0+cpu", ">=2.9,<2.14") and not satisfies("", ">=2.9")


def test_print_versions(capsys):
    print_versions("pytest", "no-such-package")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Python +\d+\.\d+\.\d+", lines[0])
    assert re.fullmatch(r"pytest +\d+\.\d+\.\d+", lines[1])
    assert lines[2] == "no-such-package not installed"
    assert len({re.match(r"\S+ +", line).end() for line in lines}) == 1


@pytest.mark.parametrize("path", OLD_PYTHON, ids=lambda path: path.name)
def test_python_310_can_read_it_and_nothing_but_the_standard_library_is_imported(path):
    module = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    names = set()
    for node in module.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names) | {"helpers"}
