"""The private names of foreign packages that the course uses are still there."""

import pytest

from helpers import compat


@pytest.mark.parametrize("entry", compat.PRIVATE_NAMES, ids=lambda entry: f"{entry.module}.{entry.name}")
def test_the_private_name_is_still_there(entry):
    pytest.importorskip(entry.module.split(".")[0])
    assert compat.is_there(entry), (
        f"{entry.package} no longer has {entry.module}.{entry.name} (checked with {entry.checked_with}), "
        f"which the course needs: {entry.reason}."
    )


def test_a_missing_name_is_found():
    entry = compat.PrivateName("json", "_no_such_name", "Python", "3.11", "a fault planted by the test")
    assert not compat.is_there(entry)
