"""Errors of the download: one sentence each, with a cure in the words of a notebook or of a terminal."""

from dataclasses import dataclass

from helpers import CourseError
from helpers.language import say


@dataclass(frozen=True)
class Advice:
    """What to do: as Python in a notebook, and with the command's flags in a terminal where that differs."""

    in_python: str
    in_terminal: str = ""

    @property
    def with_flags(self) -> str:
        """The words for a terminal."""
        return self.in_terminal or self.in_python


def another_disk() -> Advice:
    """Where the folder of the models cannot be used, or has no room."""
    return Advice(say("pass cache_dir='/another/disk'"), say("pass --cache-dir /another/disk"))


def run_again() -> Advice:
    """Where another try helps."""
    return Advice(say("run this again, it goes on where it stopped"))


class DownloadError(CourseError):
    """One sentence with advice in it; `in_terminal` is the same sentence, with flags in the advice.

    `sentence`: marked with `to_say`; its field `cure` takes the advice, `values` are for the other fields.
    """

    def __init__(self, sentence: str, advice: Advice, /, **values: object):
        super().__init__(say(sentence, cure=advice.in_python, **values))
        self.in_terminal = say(sentence, cure=advice.with_flags, **values)


class NoNetworkError(DownloadError):
    """The hub cannot be reached: a copy that is on this disk has to do."""


def without_stop(sentence: object) -> str:
    """A sentence as a part of another one, in brackets: its full stop, of either language, is left out."""
    return str(sentence).rstrip(".。")
