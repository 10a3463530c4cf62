"""Files of tests have names of their own: without packages, pytest cannot tell two of one name apart."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))


def repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def test_no_name_twice():
    names = [path.name for path in FILES if path.name != "conftest.py"]
    assert not repeated(names), "the second one would not be collected: give it another name"


def test_a_name_that_comes_twice_is_found():
    assert repeated(["test_a.py", "test_b.py", "test_a.py"]) == ["test_a.py"]


def test_nothing_is_imported_from_conftest():
    """Most folders have a conftest.py: which one it would be depends on what was collected before."""
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line.startswith(("from conftest", "import conftest")), path
