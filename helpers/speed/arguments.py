"""What the functions of this package refuse at once: what is no number, and a text where a list belongs."""

from collections.abc import Sequence
from numbers import Integral, Real

from helpers import CourseError
from helpers.language import say


def check_whole(name: str, number: object, least: int) -> None:
    """CourseError if the argument of this name is no whole number, or less than `least`."""
    if not isinstance(number, Integral) or number < least:
        raise CourseError(
            say(
                "{name} is {number!r}: give a whole number from {least} on.",
                name=name,
                number=number,
                least=least,
            )
        )


def check_seconds(name: str, seconds: object) -> None:
    """CourseError if the argument of this name is no number of seconds above zero."""
    if not isinstance(seconds, Real) or not seconds > 0:
        raise CourseError(
            say("{name} is {seconds!r}: give a number of seconds above zero.", name=name, seconds=seconds)
        )


def check_list(name: str, items: object, example: str) -> None:
    """CourseError if the argument of this name is no list with something in it; a text is none."""
    is_list = isinstance(items, Sequence) and not isinstance(items, str)
    if not is_list or not items:
        raise CourseError(
            say(
                "{name} is {items!r}: give a list with at least one entry, such as {example}.",
                name=name,
                items=items,
                example=example,
            )
        )
