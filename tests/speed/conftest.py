"""Settings and models of the tests of helpers.speed."""

import pytest

from helpers import EMBEDDED_MODEL
from helpers.inference import load


@pytest.fixture(scope="package")
def toy():
    """The embedded model and its tokenizer."""
    return load(EMBEDDED_MODEL)
