"""What every test of a check asks: is the verdict right, and does the sentence say what it should?"""

from helpers.exercises.verdict import Outcome


def said(outcome: Outcome, capsys) -> str:
    """What a check has printed: one paragraph, which opens as its outcome says."""
    text = capsys.readouterr().out
    opening = "Not yet: "
    if outcome:
        opening = "Right: "
    assert text.startswith(opening)
    assert text.count("\n") == 1, "one paragraph"
    return text


def assert_wrong(outcome: Outcome, reason: str, capsys, secrets=()) -> None:
    """The answer is wrong, the sentence says why, and none of the secrets, the right answers, is in it."""
    text = said(outcome, capsys)
    assert not outcome, text
    assert reason in text
    for secret in secrets:
        assert str(secret) not in text
        if isinstance(secret, int | float):
            assert f"{secret:,}" not in text


def assert_right(outcome: Outcome, addition: str, capsys, secrets=()) -> None:
    """The answer is right, something is added to that, and none of the secrets is given away to others."""
    text = said(outcome, capsys)
    assert outcome, text
    assert addition in text
    for secret in secrets:
        assert str(secret) not in text
