"""Exercises of notebook 04: right answers, typical wrong ones each with its reason, and empty starters."""

import types

import pytest
import torch
from answers import assert_right, assert_wrong
from transformers import Qwen2MoeConfig

from helpers.exercises import inference as checks
from helpers.inference import stream_chat

CHAT = [{"role": "user", "content": checks.QUESTION}]


def test_empty_starters(capsys):
    empty = [
        checks.check_mask(None, None),
        checks.check_stopped(None, None),
        checks.check_layers_in_ram(None),
        checks.check_greedy_loop(None, None, None),
        checks.check_equal_reads(...),
    ]
    assert not any(empty)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(empty)
    assert all(line.startswith("Not yet: put your answer") for line in lines)


# --- exercise 1 ---


def test_the_mask(batch, tokenizer, capsys):
    right = batch["attention_mask"]
    for mask in (right, batch["input_ids"] != tokenizer.pad_token_id, right.tolist()):
        assert_right(checks.check_mask(mask, batch), "every padding token is hidden", capsys)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (torch.ones_like, "nothing is hidden"),
        (lambda mask: 1 - mask, "swapped"),
        (lambda mask: mask.flip(1), "padding on the other side"),
        (lambda mask: mask[:1], "the shape of your mask"),
        (lambda mask: mask * 2, "ones and zeros only"),
        (torch.zeros_like, "numbers are wrong"),
        (lambda mask: "mask", "cannot be checked"),
    ],
)
def test_wrong_masks(change, reason, batch, capsys):
    assert_wrong(checks.check_mask(change(batch["attention_mask"]), batch), reason, capsys)


def test_a_missing_mask_gets_its_reason(batch, capsys):
    for empty in (None, ...):
        assert_wrong(checks.check_mask(empty, batch), "put your mask", capsys)


# --- exercise 2 ---


def read(stream, most: int) -> list[str]:
    pieces = []
    for piece in stream:
        pieces.append(piece)
        if len(pieces) == most:
            break
    return pieces


def test_the_stopped_stream(model, tokenizer, capsys):
    stream = stream_chat(model, tokenizer, CHAT, do_sample=False)
    verdict = checks.check_stopped(stream, read(stream, 10))
    assert_right(verdict, "computes no more", capsys, [stream.finish_reason])


@pytest.mark.parametrize(
    ("most", "reason"),
    [(9, "you have 9 pieces"), (11, "you have 11 pieces"), (1000, "ended by itself")],
)
def test_streams_that_are_stopped_elsewhere(most, reason, model, tokenizer, capsys):
    stream = stream_chat(model, tokenizer, CHAT, do_sample=False)
    pieces = read(stream, most)
    assert_wrong(checks.check_stopped(stream, pieces), reason, capsys)


def test_a_stream_that_nobody_read(model, tokenizer, capsys):
    stream = stream_chat(model, tokenizer, CHAT, do_sample=False)
    assert_wrong(checks.check_stopped(stream, []), "nobody has read", capsys)
    assert_wrong(checks.check_stopped("text", ["t"] * 10), "no stream", capsys)
    assert list(stream)
    assert_wrong(checks.check_stopped(stream, "text"), "no list", capsys)


# --- exercise 3 ---


def test_layers_in_ram(capsys):
    placement = checks.one_card(22)
    in_ram = checks.layers_at(placement, "cpu")
    assert_right(checks.check_layers_in_ram(in_ram), "for every single token", capsys)
    parts = sum(1 for place in placement.values() if place == "cpu")
    wrong = {
        checks.layers_at(placement, 0): "stay on the card",
        parts: "not all of them are layers",
        checks.layers_at(checks.one_card(24), "cpu"): "for 24 GiB",
        12: "Which values",
    }
    assert in_ram not in wrong
    for answer, reason in wrong.items():
        assert_wrong(checks.check_layers_in_ram(answer), reason, capsys)


# --- exercise 4 ---


#: Where a fault reads the logits, if not at the last position.
POSITIONS = {"first position": 0}


def greedy(model, inputs, limit, fault=""):
    """Greedy decoding, right or with one of the typical faults."""
    ends = model.generation_config.eos_token_id
    ids = inputs["input_ids"]
    mask = inputs["attention_mask"]
    everything = ids
    cache = None
    answer = []
    if fault == "counts the prompt":
        limit = max(1, limit - ids.shape[1])
    while fault == "never ends" or len(answer) < limit:
        fed = ids
        if fault in ("feeds everything", "no cache"):
            fed = everything
        seen = mask
        if fault == "no mask":
            seen = None
        with torch.inference_mode():
            output = model(input_ids=fed, attention_mask=seen, past_key_values=cache)
        if fault != "no cache":
            cache = output.past_key_values
        position = POSITIONS.get(fault, -1)
        ids = output.logits[:, position].argmax(-1, keepdim=True)
        if fault == "worst":
            ids = output.logits[:, position].argmin(-1, keepdim=True)
        everything = torch.cat([everything, ids], dim=1)
        if fault != "mask does not grow":
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        if fault == "drops the end" and ids.item() in ends:
            break
        answer.append(ids.item())
        if fault not in ("never ends", "goes on") and ids.item() in ends:
            break
    if fault == "returns the prompt":
        return everything[0].tolist()
    return answer


def faulty(fault: str):
    return lambda model, inputs, limit: greedy(model, inputs, limit, fault)


@pytest.mark.parametrize("fault", ["", "no mask"])
def test_right_loops(fault, model, tokenizer, capsys):
    assert_right(checks.check_greedy_loop(faulty(fault), model, tokenizer), "as from generate", capsys)


def test_tensors_are_ids_too(model, tokenizer, capsys):
    def as_tensor(model, inputs, limit):
        return torch.tensor([greedy(model, inputs, limit)])

    def as_tensors(model, inputs, limit):
        return [torch.tensor([[token]]) for token in greedy(model, inputs, limit)]

    for loop in (as_tensor, as_tensors):
        assert_right(checks.check_greedy_loop(loop, model, tokenizer), "as from generate", capsys)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("feeds everything", "Which one is new?"),
        ("no cache", "has no cache and computes all"),
        ("mask does not grow", "has to grow with every token"),
        ("first position", "Which position of the logits"),
        ("goes on", "because the model has ended its turn; you go on"),
        ("never ends", "What ends your loop?"),
        ("counts the prompt", "Do you count the prompt?"),
        ("returns the prompt", "begins with the prompt"),
        ("drops the end", "the last token is missing"),
        ("worst", "the first 0 tokens are those of generate, number 1 is not"),
    ],
)
def test_wrong_loops(fault, reason, model, tokenizer, capsys):
    assert_wrong(checks.check_greedy_loop(faulty(fault), model, tokenizer), reason, capsys)


@pytest.mark.parametrize(
    ("loop", "reason"),
    [
        (lambda model, inputs, limit: None, "returns nothing"),
        (lambda model, inputs, limit: [], "never calls the model"),
        (lambda model, inputs, limit: "A token is", "returns text"),
        (lambda model, inputs, limit: model.generate(**inputs), "generate does the work here"),
        (lambda model, inputs, limit: [model(**inputs).logits.argmax().item()][:0], "no tokens at all"),
        (lambda model, inputs: [1], "cannot be checked (TypeError"),
        ([1, 2, 3], "without calling it"),
    ],
)
def test_answers_that_are_no_loop(loop, reason, model, tokenizer, capsys):
    assert_wrong(checks.check_greedy_loop(loop, model, tokenizer), reason, capsys)


def test_the_model_is_as_before(model, tokenizer, capsys):
    checks.check_greedy_loop(faulty("never ends"), model, tokenizer)
    capsys.readouterr()
    assert "generate" not in vars(model)
    assert not model._forward_pre_hooks


def test_of_two_equal_tokens_either_is_right(model, tokenizer, capsys):
    """A loop that takes the second of two equal tokens: generate takes the first, and both are right."""
    ids = tokenizer.apply_chat_template(
        CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    first = model.generate(**ids, max_new_tokens=1, do_sample=False, repetition_penalty=1.0)[0, -1].item()
    end = tokenizer.eos_token_id
    head = model.lm_head.weight.data
    before = head[end].clone()
    head[end] = head[first]  # now both have the same logit; the second one ends the turn
    try:

        def last_of_equals(model, inputs, limit):
            logits = model(**inputs).logits[0, -1]
            return [int((logits == logits.max()).nonzero()[-1])]

        assert first < end
        assert_right(checks.check_greedy_loop(last_of_equals, model, tokenizer), "as from generate", capsys)
    finally:
        head[end] = before


# --- exercise 5 ---


def test_equal_reads(capsys):
    read = checks.bytes_read(Qwen2MoeConfig())
    right = read["weights"] / read["cache"]
    for answer in (right, int(right), round(right, -2)):
        assert_right(checks.check_equal_reads(answer), "more of the cache", capsys)
    wrong = {
        right * 2: "besides its keys",
        right / 2: "a number in bf16",
        right * 24: "a single layer",
        read["all"] / read["cache"]: "Which of them does one token read",
        (read["weights"] + read["embedding"]) / read["cache"]: "one row is read",
        100: "too few",
        10**9: "too many",
    }
    for answer, reason in wrong.items():
        assert_wrong(checks.check_equal_reads(answer), reason, capsys)


def test_equal_reads_takes_numbers_only(capsys):
    assert_wrong(checks.check_equal_reads("many"), "cannot be checked", capsys)
    assert_wrong(checks.check_equal_reads(types), "cannot be checked", capsys)
