"""Errors of the download: one sentence each, with a cure in the words of a notebook or of a terminal."""

from dataclasses import dataclass

from helpers import CourseError


@dataclass(frozen=True)
class Advice:
    """What to do: as Python in a notebook, and with the command's flags in a terminal where that differs."""

    in_python: str
    in_terminal: str = ""

    @property
    def with_flags(self) -> str:
        """The words for a terminal."""
        return self.in_terminal or self.in_python


#: Where the folder of the models cannot be used, or has no room.
ANOTHER_DISK = Advice("pass cache_dir='/another/disk'", "pass --cache-dir /another/disk")
AGAIN = "run this again, it goes on where it stopped"


class DownloadError(CourseError):
    """One sentence: what is wrong, the advice, and an end; `in_terminal` has the advice with flags."""

    def __init__(self, what: str, advice: Advice, end: str = "."):
        super().__init__(what + advice.in_python + end)
        self.in_terminal = what + advice.with_flags + end


class NoNetworkError(DownloadError):
    """The hub cannot be reached: a copy that is on this disk has to do."""
