"""The tokens of an answer in the colours of their experts."""

from types import SimpleNamespace

import numpy as np

from helpers.prompt_box import routing_strip

ROUTING = SimpleNamespace(
    token_id=np.array([1, 2, 3]),
    decode=np.array([False, True, True]),
    experts=np.array([[[0, 1]], [[2, 3]], [[1, 0]]]),
    layers=np.array([5]),
)
TEXTS = {1: "prompt", 2: "<b>", 3: "y"}
TOKENIZER = SimpleNamespace(decode=lambda ids: TEXTS[ids[0]])


def test_the_strip_escapes_and_shows_the_answer_only():
    strip = routing_strip(ROUTING, TOKENIZER)
    assert "prompt" not in strip
    assert "layer 5" in strip
    assert 'title="expert 2" style="background: hsl(274, 70%, 80%); color: #222">&lt;b&gt;</span>' in strip
    assert 'title="expert 1"' in strip
