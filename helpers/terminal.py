"""Text for a terminal in both languages: columns, lines, lists of words, and the help of a command.

A Chinese character takes two places of a line. Standard library only.
"""

import argparse
import re
import textwrap
import unicodedata
from collections.abc import Sequence

from helpers import CourseError
from helpers.language import CHINESE, language, say, to_say

# Argparse's own words, which the standard library has in English only.
USAGE = to_say("usage: ")
HEADINGS = (to_say("positional arguments"), to_say("options"))
HELP = to_say("show this help message and exit")

#: What may stand alone at the end of a line: a word without spaces, or one Chinese character, each with the
#: signs that belong to it. A line must not begin with a closing sign, nor end with an opening one.
PIECE = re.compile(r"\s*[（“]*(?:[\x21-\x7e]+|[^\x21-\x7e\s])[，。：；、）”…]*")


def places(text: str) -> int:
    """How many places of a line a text takes."""
    wide = [letter for letter in text if unicodedata.east_asian_width(letter) in ("W", "F")]
    return len(text) + len(wide)


def padded(text: str, width: int) -> str:
    """The text with spaces behind it, up to `width` places."""
    return text + " " * max(0, width - places(text))


def right_aligned(text: str, width: int) -> str:
    """The text with spaces before it, up to `width` places."""
    return " " * max(0, width - places(text)) + text


def wrapped(text: str, width: int, first: str, following: str) -> str:
    """The text in lines of at most `width` places; `first` and `following` stand before the lines.

    Words without spaces, such as addresses, stay whole, however long they are.
    """
    if places(text) == len(text):
        whole = {"break_long_words": False, "break_on_hyphens": False}
        return textwrap.fill(text, width, initial_indent=first, subsequent_indent=following, **whole)
    lines = []
    line = first
    for piece in PIECE.findall(text):
        if places(line + piece) > width and line.strip():
            lines.append(line)
            line = following + piece.lstrip()
        else:
            line += piece
    return "\n".join([*lines, line])


def figures_of(items: Sequence[str]) -> str:
    """The parts of a list of figures: "7.0 GiB in RAM, 3.0 GiB on disk"."""
    if language() == CHINESE:
        return "，".join(items)
    return ", ".join(items)


def all_of(names: Sequence[str]) -> str:
    """Names as in "A and B and C"; at least one."""
    said = names[0]
    for name in names[1:]:
        said = say("{names} and {name}", names=said, name=name)
    return said


def steps(*parts: str) -> str:
    """Sentences without a full stop at their end, with one between them; empty ones are left out."""
    between = ". "
    if language() == CHINESE:
        between = "。"
    return between.join(part for part in parts if part)


def in_a_row(*sentences: str) -> str:
    """Whole sentences, one behind the other; empty ones are left out."""
    between = " "
    if language() == CHINESE:
        between = ""
    return between.join(sentence for sentence in sentences if sentence)


class HelpFormatter(argparse.HelpFormatter):
    """The layout of a command's help, with the headings in the reader's language."""

    def add_usage(self, usage, actions, groups, prefix=None):
        """As argparse does it, with "usage: " in the reader's language."""
        super().add_usage(usage, actions, groups, prefix or say(USAGE))

    def start_section(self, heading):
        """As argparse does it, with its headings in the reader's language."""
        if heading in HEADINGS:
            heading = say(heading)
        super().start_section(heading)


class CommandParser(argparse.ArgumentParser):
    """The arguments of a command; its help is in the reader's language.

    What it cannot understand is a CourseError, where argparse would print its usage and end the program.
    """

    def __init__(self, prog: str, description: str):
        super().__init__(prog=prog, description=description, add_help=False, formatter_class=HelpFormatter)
        self.add_argument("-h", "--help", action="help", help=say(HELP))

    def error(self, message: str) -> None:
        """Called by argparse with its own words for what is wrong."""
        raise CourseError(
            say(
                "The command cannot be understood ({reason}): --help shows how to call it.",
                reason=message,
            )
        )
