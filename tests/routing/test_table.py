"""The recording as a table, as a strip of tokens and as a file."""

import numpy as np
import pytest
import torch
from tiny_models import Letters, make_model

from helpers.routing import Routing, RoutingRecorder, token_strip


@pytest.fixture
def routing():
    """Two sequences of three tokens, the third one decoded: `abd` and `cae`."""
    model = make_model()
    with torch.no_grad(), RoutingRecorder(model, keep_logits=True) as recorder:
        cache = model(torch.tensor([[20, 21], [22, 20]])).past_key_values
        model(torch.tensor([[23], [24]]), past_key_values=cache)
    return recorder.routing


def test_table(routing):
    frame = routing.to_frame(Letters())
    assert len(frame) == 6 * 3 * 3
    first = frame.query("layer == 1 and rank == 0")
    assert first["sequence"].tolist() == [0, 0, 0, 1, 1, 1]
    assert first["position"].tolist() == [0, 1, 2, 0, 1, 2]
    assert first["token"].tolist() == ["a", "b", "d", "c", "a", "e"]
    assert first["phase"].tolist() == ["prefill", "prefill", "decode"] * 2
    assert first["expert"].tolist() == routing.experts[:, 1, 0].tolist()
    assert first["weight"].tolist() == routing.weights[:, 1, 0].tolist()
    assert first["shared_gate"].tolist() == routing.shared_gate[:, 1].tolist()


def test_strip(routing):
    strip = token_strip(routing.to_frame(Letters()), layer=1, sequence=1)
    assert [token for token, _ in strip] == ["c", "a", "e"]
    assert [expert for _, expert in strip] == routing.experts[3:, 1, 0].tolist()


def test_file(routing, tmp_path):
    routing.save(tmp_path / "routing.npz")
    loaded = Routing.load(tmp_path / "routing.npz")
    for name, value in vars(routing).items():
        assert np.array_equal(getattr(loaded, name), value), name
    assert loaded.to_frame(Letters()).equals(routing.to_frame(Letters()))
