"""Settings and models of the tests of helpers.speed."""

import pytest
import torch

from helpers import EMBEDDED_MODEL
from helpers.inference import load


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Sharing out work this small costs more than the work itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def toy():
    """The embedded model and its tokenizer."""
    return load(EMBEDDED_MODEL)
