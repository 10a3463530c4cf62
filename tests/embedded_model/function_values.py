"""What each Python function of the corpus must return, on three inputs.

The keys are the English names in `corpus/functions.json`; N stands for the number in the question.
"""

import math
from collections.abc import Callable

# Arguments and the value; for a function with a number the value is computed from it.
VALUES: dict[str, list[tuple[tuple, object]]] = {
    "adds two numbers": [((2, 3), 5), ((-1, 1), 0), ((0.5, 0.25), 0.75)],
    "subtracts two numbers": [((5, 3), 2), ((3, 5), -2), ((0, 0), 0)],
    "multiplies two numbers": [((4, 3), 12), ((-2, 5), -10), ((0, 9), 0)],
    "divides two numbers": [((6, 3), 2), ((1, 4), 0.25), ((-9, 3), -3)],
    "returns the square of a number": [((3,), 9), ((-4,), 16), ((0,), 0)],
    "returns the cube of a number": [((2,), 8), ((-3,), -27), ((0,), 0)],
    "checks whether a number is even": [((4,), True), ((7,), False), ((0,), True)],
    "checks whether a number is odd": [((4,), False), ((7,), True), ((-3,), True)],
    "checks whether a number is positive": [((4,), True), ((-7,), False), ((0,), False)],
    "checks whether a number is prime": [((7,), True), ((9,), False), ((1,), False)],
    "computes the factorial of a number": [((0,), 1), ((5,), 120), ((3,), 6)],
    "returns the n-th Fibonacci number": [((1,), 1), ((7,), 13), ((10,), 55)],
    "computes the greatest common divisor of two numbers": [((12, 18), 6), ((7, 5), 1), ((9, 3), 3)],
    "returns the absolute value of a number": [((-3,), 3), ((4,), 4), ((0,), 0)],
    "returns the larger of two numbers": [((2, 9), 9), ((9, 2), 9), ((-1, -5), -1)],
    "returns the smaller of two numbers": [((2, 9), 2), ((9, 2), 2), ((-1, -5), -5)],
    "finds the largest number in a list": [(([3, 8, 1],), 8), (([-2, -5],), -2), (([4],), 4)],
    "finds the smallest number in a list": [(([3, 8, 1],), 1), (([-2, -5],), -5), (([4],), 4)],
    "sums a list of numbers": [(([1, 2, 3],), 6), (([],), 0), (([-1, 1],), 0)],
    "computes the mean of a list": [(([1, 2, 3],), 2), (([4],), 4), (([0, 1],), 0.5)],
    "counts the elements of a list": [(([5, 6],), 2), (([],), 0), ((["a"],), 1)],
    "reverses a list": [(([1, 2, 3],), [3, 2, 1]), (([],), []), ((["a"],), ["a"])],
    "reverses a string": [(("abc",), "cba"), (("",), ""), (("ab ",), " ba")],
    "sorts a list": [(([3, 1, 2],), [1, 2, 3]), (([],), []), ((["b", "a"],), ["a", "b"])],
    "sorts a list in descending order": [(([3, 1, 2],), [3, 2, 1]), (([],), []), (([1, 1],), [1, 1])],
    "removes duplicates from a list": [(([1, 2, 1],), [1, 2]), (([],), []), (([3, 3],), [3])],
    "returns the first element of a list": [(([7, 8],), 7), ((["a"],), "a"), (([0, 1],), 0)],
    "returns the last element of a list": [(([7, 8],), 8), ((["a"],), "a"), (([0, 1],), 1)],
    "checks whether a list is empty": [(([],), True), (([1],), False), (([None],), False)],
    "checks whether a word is a palindrome": [(("level",), True), (("word",), False), (("",), True)],
    "counts the words in a text": [(("one two",), 2), (("",), 0), (("a  b c",), 3)],
    "counts the vowels in a text": [(("banana",), 3), (("XYZ",), 0), (("AEiou",), 5)],
    "converts a text to upper case": [(("ab",), "AB"), (("A1",), "A1"), (("",), "")],
    "converts a text to lower case": [(("AB",), "ab"), (("a1",), "a1"), (("",), "")],
    "joins two strings": [(("ab", "c"), "abc"), (("", "x"), "x"), (("a", " b"), "a b")],
    "merges two lists": [(([1], [2, 3]), [1, 2, 3]), (([], []), []), ((["a"], []), ["a"])],
    "swaps two values": [((1, 2), (2, 1)), (("a", "b"), ("b", "a")), ((0, 0), (0, 0))],
    "converts Celsius to Fahrenheit": [((0,), 32), ((100,), 212), ((-40,), -40)],
    "computes the area of a circle": [((1,), math.pi), ((0,), 0), ((2,), 4 * math.pi)],
    "computes the area of a rectangle": [((2, 3), 6), ((0, 5), 0), ((1.5, 2), 3)],
}
WITH_NUMBER: dict[str, Callable[[int], list[tuple[tuple, object]]]] = {
    "adds {n} to a number": lambda n: [((1,), 1 + n), ((-n,), 0), ((0.5,), 0.5 + n)],
    "multiplies a number by {n}": lambda n: [((1,), n), ((-2,), -2 * n), ((0,), 0)],
    "checks whether a number is divisible by {n}": lambda n: [
        ((3 * n,), True),
        ((3 * n + 1,), False),
        ((0,), True),
    ],
    "checks whether a number is greater than {n}": lambda n: [
        ((n + 1,), True),
        ((n,), False),
        ((-1,), False),
    ],
    "returns the first {n} elements of a list": lambda n: [
        ((list(range(200)),), list(range(n))),
        (([1],), [1]),
        (([],), []),
    ],
    "repeats a string {n} times": lambda n: [(("ab",), "ab" * n), (("",), ""), (("x",), "x" * n)],
}


def defined_function(answer: str) -> Callable:
    """The function in an answer that is a block of Python code."""
    code = answer.removeprefix("```python\n").removesuffix("\n```")
    space: dict = {}
    exec(code, space)
    return next(value for name, value in space.items() if callable(value) and not name.startswith("__"))


def gives_right_values(name: str, question: str, answer: str, tmp_path, capsys) -> bool:
    """Run the function in an answer. `name` is its name in the corpus, with {n} for a number."""
    try:
        function = defined_function(answer)
        if name == "prints hello world":
            capsys.readouterr()
            function()
            return capsys.readouterr().out == "hello world\n"
        if name == "reads a text file":
            texts = ("", "one line", "two\nlines\n")
            for number, text in enumerate(texts):
                (tmp_path / str(number)).write_text(text)
            return all(function(tmp_path / str(number)) == text for number, text in enumerate(texts))
        if name in WITH_NUMBER:
            number = int("".join(character for character in question if character.isdigit()))
            cases = WITH_NUMBER[name](number)
        else:
            cases = VALUES[name]
        return all(function(*arguments) == value for arguments, value in cases)
    except Exception:  # a broken answer is a wrong answer, whatever it raises
        return False
