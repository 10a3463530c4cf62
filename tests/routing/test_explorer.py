"""The explorer follows its controls, and shows texts as texts."""

import numpy as np
import pandas as pd

from helpers.routing import Explorer


def record(text):
    """A table as `Routing.to_frame` gives it: one token per letter, two layers, two experts."""
    if not text:
        raise ValueError("no <b>text</b>")
    token, layer, rank = np.indices((len(text), 2, 2)).reshape(3, -1)
    return pd.DataFrame(
        {
            "position": token,
            "token": [text[place] for place in token],
            "layer": layer,
            "expert": token + layer + rank,
            "weight": 0.5 / (1 + rank),
            "shared_gate": 0.25,
        }
    )


def test_its_first_view():
    view = Explorer(record, "a<").view.value
    assert "expert 0: 0.500" in view
    assert "expert 1: 0.250" in view
    assert "sum of the weights: 0.750" in view
    assert "gate: 0.250" in view


def test_it_follows_layer_and_token():
    explorer = Explorer(record, "a<")
    explorer.layer.value = 1
    assert "expert 1: 0.500" in explorer.view.value
    explorer.token.value = 1
    assert "&lt;" in explorer.view.value
    assert "<'" not in explorer.view.value


def test_another_text_keeps_the_layer():
    explorer = Explorer(record, "a<")
    explorer.layer.value = 1
    explorer.text.value = "other"
    assert explorer.token.options[0][0] == "0 'o'"
    assert explorer.layer.value == 1


def test_a_text_that_cannot_be_recorded():
    explorer = Explorer(record, "a<")
    explorer.text.value = ""
    assert "no &lt;b&gt;text&lt;/b&gt;" in explorer.view.value
    explorer.text.value = "again"
    assert "expert" in explorer.view.value


def test_without_a_kernel():
    bundle = Explorer(record, "ab")._repr_mimebundle_()
    assert bundle["text/plain"] == "Routing explorer"
    assert "run this cell" in bundle["text/html"]
    assert "expert 0" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
