"""Say whether an answer is right: the frame around every check of an exercise."""

import functools
from collections.abc import Callable

from helpers.language import say


class WrongAnswerError(Exception):
    """Raised inside a check: its text says what is wrong with the answer, and where to look."""


class Outcome:
    """Whether an answer is right, true or false in an `if`. As the last line of a cell it shows nothing."""

    def __init__(self, is_right: bool, sentence: str):
        self.is_right = is_right
        print(sentence)

    def __bool__(self) -> bool:
        return self.is_right

    def _ipython_display_(self) -> None:
        """What IPython calls to show the value of a cell: the sentence has been printed already."""


def first_line(error: Exception) -> str:
    """What an error says, without what follows in further lines."""
    message = str(error).strip()
    if not message:
        return say("no message")
    return message.splitlines()[0]


def verdict(check: Callable[..., str]) -> Callable[..., Outcome]:
    """Turn `check` into a function that prints its verdict and returns whether the answer is right.

    `check(answer, ...)` returns a sentence of praise that adds something to know, or raises
    `WrongAnswerError`. An empty starter cell passes None or `...`, which is answered with "Not yet". An
    answer that makes the check itself fail, such as a text for a number, is wrong as well: a learner sees
    one sentence, no traceback.
    """

    @functools.wraps(check)
    def run(*answers, **options) -> Outcome:
        if all(answer is None or answer is Ellipsis for answer in answers):
            return Outcome(False, say("Not yet: put your answer into this cell, and run it again."))
        try:
            praise = check(*answers, **options)
        except WrongAnswerError as problem:
            return Outcome(False, say("Not yet: {reason}", reason=problem))
        except Exception as error:
            return Outcome(
                False,
                say(
                    "Not yet: your answer cannot be checked ({kind}: {message}).",
                    kind=type(error).__name__,
                    message=first_line(error),
                ),
            )
        return Outcome(True, say("Right: {praise}", praise=praise))

    return run
