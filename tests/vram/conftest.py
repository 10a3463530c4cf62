"""Settings of the tests of helpers.vram."""

import pytest

from helpers import vram


@pytest.fixture(scope="session")
def two_cards():
    """The forecast for the real model on two cards of 24 GiB."""
    return vram.forecast("real", gpus=["24GiB", "24GiB"])
