"""Versions of packages: what is installed, what requirements.txt asks for, and whether the two agree."""

import platform
import re
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

from helpers.language import say


def package_version(name: str) -> str:
    """Installed version of a package, read without importing it; "" when it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def requirements() -> dict[str, str]:
    """What requirements.txt asks for: name -> specifier such as ">=2.9,<2.14"."""
    text = (Path(__file__).parents[2] / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^([\w-]+)([=<>!][^\s#]*)", text))


def lowest_versions() -> dict[str, str]:
    """The oldest version of each package that requirements.txt allows: name -> version such as "2.9"."""
    lowest = {}
    for name, specifier in requirements().items():
        lowest[name] = re.search(r"[\d.]+", specifier)[0]
    return lowest


def print_versions(*packages: str) -> None:
    """Print the version of Python and of each package, one `name version` per line."""
    width = max(len(name) for name in ("Python", *packages))
    print(f"{'Python':<{width}} {platform.python_version()}")
    for name in packages:
        version = package_version(name) or say("not installed")
        print(f"{name:<{width}} {version}")


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version such as "2.13.0+cpu" meets a specifier such as ">=2.9,!=2.10.*,<2.14".

    False for "", which stands for a missing package.
    """
    have = _numbers(version)
    if not have:
        return False
    conditions = re.findall(r"(==|!=|>=|<)([\d.]+)", specifier)
    return all(_meets(have, sign, _numbers(bound)) for sign, bound in conditions)


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version: [2, 13, 0] of "2.13.0+cpu"."""
    digits = re.match(r"[\d.]*", version)[0]
    return [int(number) for number in digits.split(".") if number]


def _meets(have: list[int], sign: str, bound: list[int]) -> bool:
    """One condition. As many numbers count as the bound has: 7.0.1 is "==7.0"; a missing number is 0."""
    pairs = list(zip_longest(have, bound, fillvalue=0))
    mine = [number for number, _ in pairs]
    other = [number for _, number in pairs]
    same = mine[: len(bound)] == bound
    answers = {"==": same, "!=": not same, ">=": mine >= other, "<": mine < other}
    return answers[sign]
