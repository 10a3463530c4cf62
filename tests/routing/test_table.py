"""The recording as a table, as a strip of tokens and as a file."""

import numpy as np
import pytest
import torch
from tiny_models import Letters, make_model

from helpers import CourseError
from helpers.routing import Routing, RoutingRecorder, token_labels, token_strip
from helpers.routing.columns import largest_weight_first


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


class Bytes:
    """A tokenizer with one token per byte of UTF-8."""

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


LABELS = {
    "abc": ["a", "b", "c"],
    "a词": ["a", "词 1/3", "词 2/3", "词 3/3"],
    "词é": ["词 1/3", "词 2/3", "词 3/3", "é 1/2", "é 2/2"],
    "🙂!": ["🙂 1/4", "🙂 2/4", "🙂 3/4", "🙂 4/4", "!"],
}


@pytest.mark.parametrize("text", LABELS)
def test_tokens_that_are_parts_of_a_character(text):
    assert token_labels(Bytes(), list(text.encode())) == LABELS[text]


def test_bytes_that_never_become_a_character():
    half = list("词".encode())[:2]
    assert token_labels(Bytes(), half) == ["\ufffd", "\ufffd"]
    assert token_labels(Bytes(), [*half, *b"ab"]) == ["\ufffd", "\ufffd", "a", "b"]


def test_parts_of_characters_in_the_table():
    """Two sequences: the end of one and the beginning of the next make no character."""
    routing = make_routing([[0]] * 4, [[1.0]] * 4)
    routing.token_id = np.array([*"词a".encode()])
    assert routing.to_frame(Bytes())["token"].tolist() == ["词 1/3", "词 2/3", "词 3/3", "a"]
    routing.sequence = np.array([0, 0, 1, 1])
    assert routing.to_frame(Bytes())["token"].tolist() == ["\ufffd", "\ufffd", "\ufffd", "a"]


def make_routing(experts, weights):
    """One sequence in one layer; a row of `experts` and `weights` for each token."""
    tokens = len(experts)
    return Routing(
        sequence=np.zeros(tokens, int),
        position=np.arange(tokens),
        token_id=np.full(tokens, 20),
        decode=np.zeros(tokens, bool),
        layers=np.array([0]),
        experts=np.array(experts, np.int16)[:, None],
        weights=np.array(weights, np.float32)[:, None],
    )


def test_largest_weight_first():
    """A router with a bias names its experts in another order than that of their weights."""
    routing = largest_weight_first(make_routing([[7, 3, 5], [1, 2, 3]], [[0.2, 0.5, 0.3], [0.3, 0.2, 0.2]]))
    assert routing.experts[:, 0].tolist() == [[3, 5, 7], [1, 2, 3]]
    assert routing.weights[0, 0].tolist() == sorted(routing.weights[0, 0], reverse=True)
    assert routing.router_rank[:, 0].tolist() == [[1, 2, 0], [0, 1, 2]]
    frame = routing.to_frame(Letters())
    assert frame["rank"].tolist() == [0, 1, 2, 0, 1, 2]
    assert frame.sort_values(["position", "router_rank"])["expert"].tolist() == [7, 3, 5, 1, 2, 3]


def test_the_routers_order_is_kept_in_the_file(tmp_path):
    routing = largest_weight_first(make_routing([[7, 3]], [[0.2, 0.5]]))
    routing.save(tmp_path / "routing.npz")
    loaded = Routing.load(tmp_path / "routing.npz")
    assert loaded.router_rank.tolist() == [[[1, 0]]]


def test_a_router_that_names_the_largest_weight_first_needs_no_second_order():
    routing = largest_weight_first(make_routing([[7, 3]], [[0.5, 0.2]]))
    assert routing.router_rank is None
    assert "router_rank" not in routing.to_frame(Letters())


def test_no_file(tmp_path):
    with pytest.raises(CourseError, match=r"There is no recording .*routing.npz: give the path"):
        Routing.load(tmp_path / "routing.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_recording(tmp_path, content):
    path = tmp_path / "routing.npz"
    path.write_bytes(content)
    with pytest.raises(CourseError, match="holds no recording"):
        Routing.load(path)


def test_a_file_with_other_arrays(tmp_path):
    np.savez(tmp_path / "routing.npz", weights=np.zeros(3))
    with pytest.raises(CourseError, match="holds no recording"):
        Routing.load(tmp_path / "routing.npz")
