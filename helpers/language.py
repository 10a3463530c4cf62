"""The language in which the course speaks: English or Chinese. Standard library only.

In the code stands the English sentence, whole, with its values as named fields; the Chinese one stands in the
catalogue of the package, `zh.json`, under the English one:

    say("{name} needs {needed:.1f} GiB, free: {free:.1f} GiB.", name=name, needed=needed, free=free)

A sentence is never glued from parts, because the other language puts them in another order. Where the English
changes with a number ("1 file", "2 files"), there are two sentences.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from itertools import pairwise
from pathlib import Path

from helpers.settings import wanted_language

ENGLISH = "en"
CHINESE = "zh"

#: The languages as HTML names them, in the attribute `lang`: a screen reader chooses its voice by it.
HTML_NAMES = {ENGLISH: "en", CHINESE: "zh-CN"}

_refused: set[str] = set()  # values of COURSE_LANG that were already said to be unknown
_fixed: ContextVar[str | None] = ContextVar("fixed", default=None)  # inside of `speaking`


def say(english: str, /, **values: object) -> str:
    """The sentence in the reader's language, with `values` in its fields.

    `english` is a format string, and the key of the catalogue. A sentence that the catalogue does not hold is
    said in English: a test finds it before a learner does.
    """
    sentence = english
    if language() == CHINESE:
        sentence = catalogue().get(english, english)
    return sentence.format(**values)


def to_say(english: str) -> str:
    """Mark a sentence that is only said later, by `say(...)`; for constants, which are read on import."""
    return english


def language() -> str:
    """`en` or `zh`: `COURSE_LANG`, else the edition in whose folder a notebook runs, else the locale.

    It is found out at each call, so a variable that a cell sets counts from the next sentence on. Only a
    widget keeps the language in which it was built: see `in_its_language`.
    """
    fixed = _fixed.get()
    if fixed:
        return fixed
    wanted = wanted_language()
    if wanted:
        return known_language(wanted) or refused(wanted)
    return of_folder(working_folder()) or of_locale()


def known_language(name: str) -> str | None:
    """The course's language that a name such as `zh`, `zh-CN`, `en_US.UTF-8` means; None: none of them."""
    first = name.lower().replace("_", "-").split("-")[0].split(".")[0]
    if first in (ENGLISH, CHINESE):
        return first
    return None


def refused(wanted: str) -> str:
    """Say once that the course does not speak `wanted`, and speak English."""
    if wanted not in _refused:
        _refused.add(wanted)
        print(
            f"COURSE_LANG={wanted} is not a language of this course: it speaks English. Set it to en or zh.",
            file=sys.stderr,
        )
    return ENGLISH


def working_folder() -> Path | None:
    """The folder in which this program runs; None where it was deleted meanwhile."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def of_folder(folder: Path | None) -> str | None:
    """The edition to which a folder belongs: `notebooks/en`, `notebooks/zh`, or one inside them."""
    if folder is None:
        return None
    parts = folder.parts
    for above, inside in pairwise(parts):
        if above == "notebooks" and inside in (ENGLISH, CHINESE):
            return inside
    return None


def of_locale() -> str:
    """The language of the terminal, found as programs do: in the first of three variables that is set."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        name = os.environ.get(variable, "")
        if name:
            return known_language(name) or ENGLISH
    return ENGLISH


@contextmanager
def speaking(name: str) -> Iterator[None]:
    """In the block, and in this thread, the course speaks the language `name`: `en` or `zh`."""
    before = _fixed.set(name)
    try:
        yield
    finally:
        _fixed.reset(before)


def in_its_language(method: Callable) -> Callable:
    """Decorator for the methods of a widget: they speak `self.language`, which it got when it was built."""

    @wraps(method)
    def speaking_method(self, *arguments, **options):
        with speaking(self.language):
            return method(self, *arguments, **options)

    return speaking_method


def listed(items: Iterable[object]) -> str:
    """`1, 2, 3`, and in Chinese `1、2、3`: a list inside a sentence."""
    separator = ", "
    if language() == CHINESE:
        separator = "、"
    return separator.join(str(item) for item in items)


@lru_cache
def catalogue() -> dict[str, str]:
    """English sentence -> Chinese sentence, of all packages."""
    sentences: dict[str, str] = {}
    for file in catalogue_files():
        sentences |= json.loads(file.read_text(encoding="utf-8"))
    return sentences


def catalogue_files() -> list[Path]:
    """The catalogues: `zh.json` beside this file and in each package."""
    here = Path(__file__).parent
    return sorted([*here.glob("zh.json"), *here.glob("*/zh.json")])
