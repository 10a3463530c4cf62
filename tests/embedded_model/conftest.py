"""The embedded model, loaded once for the tests of its folder."""

import json

import pytest

from helpers import EMBEDDED_MODEL
from helpers.embedded_model import measure


@pytest.fixture(scope="session")
def loaded():
    """Model and tokenizer."""
    return measure.load(EMBEDDED_MODEL)


@pytest.fixture(scope="session")
def model(loaded):
    return loaded[0]


@pytest.fixture(scope="session")
def tokenizer(loaded):
    return loaded[1]


@pytest.fixture(scope="session")
def ask(model, tokenizer):
    """A function that answers a list of chats, many at a time."""
    return measure.asker(model, tokenizer)


@pytest.fixture(scope="session")
def results():
    """The figures that the script measured, from which the card is made."""
    return json.loads((EMBEDDED_MODEL / "training_results.json").read_text(encoding="utf-8"))
