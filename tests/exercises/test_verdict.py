"""The frame of the checks: what it prints for right, wrong, empty and impossible answers."""

import pytest

from helpers.exercises import WrongAnswerError, verdict


@verdict
def check_half(answer):
    """A check such as those of the notebooks."""
    if answer * 2 != 84:
        raise WrongAnswerError(f"{answer} is not half of 84.")
    return "42 it is."


@pytest.mark.parametrize(
    ("answer", "right", "text"),
    [
        (42, True, "Right: 42 it is.\n"),
        (41, False, "Not yet: 41 is not half of 84.\n"),
        (None, False, "Not yet: put your answer into this cell, and run it again.\n"),
        (..., False, "Not yet: put your answer into this cell, and run it again.\n"),
        ({}, False, "Not yet: your answer cannot be checked (TypeError: "),
    ],
)
def test_the_verdict(answer, right, text, capsys):
    assert bool(check_half(answer)) is right
    assert capsys.readouterr().out.startswith(text)


def test_the_name_and_the_docstring_stay():
    assert check_half.__name__ == "check_half"
    assert check_half.__doc__ == "A check such as those of the notebooks."


def test_a_cell_shows_the_sentence_only():
    from IPython.core.interactiveshell import InteractiveShell  # imported late: takes half a second

    shell = InteractiveShell.instance()
    data, _ = shell.display_formatter.format(check_half(42))
    assert data == {}
