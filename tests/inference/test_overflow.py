"""A model whose numbers overflow says so, instead of "!!!!!"."""

import threading

import pytest
import torch
from inference_samples import says, user

from helpers import CourseError
from helpers.inference import stream_chat
from helpers.inference.overflow import OverflowCheck, overflow_error

NAN = float("nan")
INFINITE = float("inf")


def breaks_at(model, monkeypatch, tokens: list[int], at: int, value: float, where=slice(None)) -> None:
    """Let the model say these tokens, and write `value` into its scores from token number `at` on."""
    says(model, monkeypatch, tokens)
    scripted = model.forward
    calls = []

    def broken(*args, **kwargs):
        output = scripted(*args, **kwargs)
        if len(calls) >= at:
            output.logits[..., where] = value
        calls.append(output.logits)
        return output

    monkeypatch.setattr(model, "forward", broken)


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize("value", [NAN, INFINITE])
@pytest.mark.parametrize("where", [slice(None), slice(100, 101)])
@pytest.mark.parametrize("do_sample", [False, True])
def test_scores_that_are_no_numbers_end_the_answer(loaded, monkeypatch, at, value, where, do_sample):
    model, tokenizer = loaded
    breaks_at(model, monkeypatch, tokenizer.encode("a") * 20, at, value, where)
    stream = stream_chat(model, tokenizer, user("x"), do_sample=do_sample, repetition_penalty=1.0)
    pieces = []
    with pytest.raises(CourseError, match=r"overflowed in bfloat16.*damaged"):
        pieces.extend(stream)
    assert stream.new_tokens == at
    assert "".join(pieces) in "a" * at
    assert not [thread for thread in threading.enumerate() if "_generate" in thread.name]


def test_a_real_overflow_in_float16(loaded):
    """Weights that are too large for float16, and not for bfloat16."""
    model, tokenizer = loaded
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = {"max_new_tokens": 5, "do_sample": False}
    try:
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.mul_(3e6)
        assert list(stream_chat(model, tokenizer, user("x"), **options))
        model.to(torch.float16)
        with pytest.raises(CourseError, match=r"overflowed in float16.*torch\.bfloat16"):
            list(stream_chat(model, tokenizer, user("x"), **options))
    finally:
        model.to(torch.bfloat16)
        model.load_state_dict(tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_sentence_names_the_dtype(dtype):
    sentence = str(overflow_error(dtype))
    assert f"overflowed in {str(dtype).removeprefix('torch.')}" in sentence
    assert sentence.endswith(".")


def test_forbidden_tokens_are_no_overflow():
    check = OverflowCheck()
    scores = torch.tensor([[-INFINITE, 1.5, -INFINITE, 2.5]])
    assert torch.equal(check(None, scores.clone()), scores)
    assert not check.overflowed


def test_nothing_seen_is_no_overflow():
    assert not OverflowCheck().overflowed


@pytest.mark.parametrize("value", [NAN, INFINITE])
def test_an_overflow_is_remembered_and_what_is_sampled_from_is_finite(value):
    check = OverflowCheck()
    scores = check(None, torch.tensor([[1.0, value, -INFINITE]]))
    assert torch.multinomial(scores.softmax(-1), 1).shape == (1, 1)
    check(None, torch.tensor([[1.0, 2.0, 3.0]]))
    assert check.overflowed


def test_the_check_waits_for_nothing(monkeypatch):
    """While `generate` runs, no tensor is turned into a number of Python: that would wait for the GPU."""
    check = OverflowCheck()
    for name in ("item", "__bool__", "tolist", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, **__: pytest.fail("it waited"))
    for _ in range(3):
        check(None, torch.zeros(1, 8))
