"""Settings of the tests of helpers.vram."""

import pytest
import torch

from helpers import vram


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Sharing out work this small costs more than the work itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def two_cards():
    """The forecast for the real model on two cards of 24 GiB."""
    return vram.forecast("real", gpus=["24GiB", "24GiB"])
