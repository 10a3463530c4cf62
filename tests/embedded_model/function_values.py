"""Whether a Python function that the model wrote gives the right values, on three inputs.

`function_values.json` has, for the English name of a function in the corpus, pairs of arguments and value.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

FILE = Path(__file__).with_name("function_values.json")
VALUES: dict[str, list] = json.loads(FILE.read_text(encoding="utf-8"))
LONG_LIST = list(range(200))
# Functions with a number in the question, here n: arguments and value depend on it.
WITH_NUMBER: dict[str, Callable[[int], list]] = {
    "adds {n} to a number": lambda n: [[[1], 1 + n], [[-n], 0], [[0.5], 0.5 + n]],
    "multiplies a number by {n}": lambda n: [[[1], n], [[-2], -2 * n], [[0], 0]],
    "checks whether a number is divisible by {n}": lambda n: [[[3 * n], True], [[n + 1], False], [[0], True]],
    "checks whether a number is greater than {n}": lambda n: [[[n + 1], True], [[n], False], [[-1], False]],
    "returns the first {n} elements of a list": lambda n: [
        [[LONG_LIST], LONG_LIST[:n]],
        [[[1]], [1]],
        [[[]], []],
    ],
    "repeats a string {n} times": lambda n: [[["ab"], "ab" * n], [[""], ""], [["x"], "x" * n]],
}


def defined_function(answer: str) -> Callable:
    """The function in an answer that is a block of Python code."""
    code = answer.removeprefix("```python\n").removesuffix("\n```")
    space: dict = {}
    exec(code, space)
    name = re.search(r"^def (\w+)", code, re.MULTILINE)[1]
    return space[name]


def as_list(value: object) -> object:
    """JSON knows no tuples."""
    return list(value) if isinstance(value, tuple) else value


def prints_hello(function: Callable, capsys) -> bool:
    for _ in range(3):
        capsys.readouterr()
        function()
        if capsys.readouterr().out != "hello world\n":
            return False
    return True


def reads_texts(function: Callable, tmp_path: Path) -> bool:
    for text in ("", "one line", "two\nlines\n"):
        (tmp_path / "text").write_text(text)
        if function(tmp_path / "text") != text:
            return False
    return True


def gives_right_values(name: str, question: str, answer: str, tmp_path: Path, capsys) -> bool:
    """Run the function in an answer. `name` is its English name in the corpus, with {n} for a number."""
    try:
        function = defined_function(answer)
        if name == "prints hello world":
            return prints_hello(function, capsys)
        if name == "reads a text file":
            return reads_texts(function, tmp_path)
        cases = VALUES.get(name)
        if name in WITH_NUMBER:
            cases = WITH_NUMBER[name](int(re.search(r"\d+", question)[0]))
        assert len(cases) == 3
        return all(as_list(function(*arguments)) == value for arguments, value in cases)
    except Exception:  # a broken answer is a wrong answer, whatever it raises
        return False
