"""A prompt box on a fake model."""

import sys
from pathlib import Path

import numpy as np
import pytest
from fake_chat import FakeModel

from helpers.prompt_box import PromptBox, answer, conversation

sys.path.append(str(Path(__file__).parents[1] / "language"))  # for the texts of widgets


@pytest.fixture
def make_box(monkeypatch, tmp_path):
    """A factory: make_box(script, script, ...) is a box on a fake model that counts one token a character."""

    def encode(tokenizer, messages):
        characters = sum(len(message["content"]) for message in messages)
        return {"input_ids": np.zeros((1, characters))}

    def make(*scripts, **settings):
        model = FakeModel(*scripts, **settings)
        monkeypatch.setattr(answer, "stream_chat", model.stream_chat)
        monkeypatch.setattr(conversation, "encode_chat", encode)
        box = PromptBox(model, None, system="Be brief.", folder=tmp_path)
        box.new_tokens.value = 100
        boxes.append(box)
        return box

    boxes = []
    yield make
    for box in boxes:
        box.close()
