"""Say whether an answer is right: the frame around every check of an exercise."""

import functools
from collections.abc import Callable


class WrongAnswerError(Exception):
    """Raised inside a check: its text says what is wrong with the answer, and where to look."""


def verdict(check: Callable[..., str]) -> Callable[..., bool]:
    """Turn `check` into a function that prints its verdict and returns whether the answer is right.

    `check(answer, ...)` returns a sentence of praise that adds something to know, or raises
    `WrongAnswerError`. An empty starter cell passes None or `...`, which is answered with "Not yet". An
    answer that makes the check itself fail, such as a text for a number, is wrong as well: a learner sees
    one sentence, no traceback.
    """

    @functools.wraps(check)
    def run(*answers, **options) -> bool:
        if all(answer is None or answer is Ellipsis for answer in answers):
            print("Not yet: put your answer into this cell, and run it again.")
            return False
        try:
            praise = check(*answers, **options)
        except WrongAnswerError as problem:
            print(f"Not yet: {problem}")
            return False
        except Exception as error:
            what = (str(error).strip() or "no message").splitlines()[0]
            print(f"Not yet: your answer cannot be checked ({type(error).__name__}: {what}).")
            return False
        print(f"Right: {praise}")
        return True

    return run
