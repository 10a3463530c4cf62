"""Every private name of a foreign package that the course must touch, in one place.

A private name may change with any release of its package. So each one is listed in `PRIVATE_NAMES` with the
version that it was checked with and the reason why nothing public does the job; the test
`tests/test_compat.py` says which name is gone when an upgrade breaks it. The functions below are the only
code that uses them.

Heavy packages are imported inside the functions, so that importing this module costs nothing.
"""

import importlib
from typing import NamedTuple


class PrivateName(NamedTuple):
    """One private name: `module` and `name` (dotted, from the module on), where it comes from, and why."""

    module: str
    name: str
    package: str
    checked_with: str  # version of the package
    reason: str


PRIVATE_NAMES: list[PrivateName] = []


def is_there(entry: PrivateName) -> bool:
    """Whether the installed package still has this name."""
    found = importlib.import_module(entry.module)
    for part in entry.name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
