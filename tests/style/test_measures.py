"""The code of the course stays as plain as DESIGN asks for; and each measure finds a bad sample."""

import pytest
from measures import Source, import_cycles, measure, read_sources

TUPLE_ASSIGNMENTS = 10  # per 1,000 lines
CONDITIONAL_EXPRESSIONS = 15  # per 1,000 lines
SHORT_LINES = 0.9

HELPERS = read_sources("helpers")
TESTS = read_sources("tests")


@pytest.mark.parametrize(
    ("sources", "private_names"), [(HELPERS, True), (TESTS, False)], ids=["helpers", "tests"]
)
def test_the_code_is_plain(sources, private_names):
    found = measure(sources, private_names)
    assert not found.faults, "\n".join(found.faults)
    assert found.per_1000(found.tuple_assignments) <= TUPLE_ASSIGNMENTS
    assert found.per_1000(found.conditional_expressions) <= CONDITIONAL_EXPRESSIONS
    assert found.short_lines() >= SHORT_LINES


def test_packages_do_not_import_each_other_in_a_circle():
    assert import_cycles(HELPERS) == []


def long_function(lines: int = 0, branches: int = 0) -> str:
    body = ["    x = 0"] * lines + ["    if x:\n        x = 1"] * branches
    return "def work(x):\n" + "\n".join(body) + "\n    return x\n"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("x = f(a if b else c)", "conditional expression inside a call"),
        ("x = f(key=a if b else c)", "conditional expression inside a call"),
        ("x = [y := 1, y]", "walrus"),
        ("x = (y := f()) + y", "walrus"),
        ("x = -(-n // b) * b", "negative floor division"),
        ("x = 'note' * bool(n)", "arithmetic with booleans"),
        ("x = '\\n' * (tag == 'br')", "arithmetic with booleans"),
        (long_function(lines=50), "has 52 lines"),
        (long_function(branches=12), "has 12 branches"),
        ("class Box:\n" + "    x = 1\n" * 130, "class Box has 131 lines"),
        ("def f():\n    import json\n    return json", "late import"),
        ("def f():\n    import torch\n    return torch", "late import"),
        ("from torch._C import x", "private name _C"),
        ("from helpers.vram.ledger import _book", "private name _book"),
        ("import torch\nx = torch.nn._private", "private name _private"),
        ("def f(model):\n    return model._routers", "private name _routers"),
    ],
)
def test_a_fault_is_found(code, fault):
    faults = measure([Source("helpers/routing/sample.py", code)]).faults
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    "code",
    [
        "if (found := f()) is not None:\n    print(found)",
        "while piece := f():\n    print(piece)",
        "x = mask * weights",
        "x = (a == b) * weights",
        "class A:\n    def f(self):\n        self._x = 1\n        return self._x",
        "from helpers.routing.recorder import _stack",
        "def f():\n    import torch  # takes seconds\n    return torch",
        "x = (n + b - 1) // b",
    ],
)
def test_plain_code_has_no_fault(code):
    assert measure([Source("helpers/routing/sample.py", code)]).faults == []


def test_rates_are_counted():
    code = "a, b = 1, 2\na, b = b, a\na, b = f()\nx = 1 if a else 2\n"
    found = measure([Source("helpers/sample.py", code + "y = [" + "1, " * 20 + "]\n")])
    assert found.tuple_assignments == 1
    assert found.conditional_expressions == 1
    assert found.long_lines == 1


def test_a_circle_is_found():
    first = Source("helpers/a/x.py", "from helpers.b.y import f")
    second = Source("helpers/b/y.py", "from helpers.c import g")
    third = Source("helpers/c/__init__.py", "import helpers.a")
    assert import_cycles([first, second]) == []
    assert len(import_cycles([first, second, third])) == 3
    late = Source("helpers/b/y.py", "def f():\n    from helpers.a.x import g")
    assert import_cycles([first, late]) == []
