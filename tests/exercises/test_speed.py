"""The checks of notebook 07: right answers pass, typical mistakes are recognised, and say why."""

import random

import pytest
import torch
import transformers

from helpers.exercises import speed
from helpers.exercises.speed import check_crossing, check_drawn_experts, check_reusable, check_two_cards
from helpers.speed import CARDS, weight_bytes


def on_meta(config):
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def real():
    """The bytes of the real model, counted from its parameters."""
    return weight_bytes(on_meta(transformers.Qwen2MoeConfig()))


@pytest.fixture(scope="module")
def dense():
    """The same for Qwen1.5-7B."""
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 151936}
    return weight_bytes(
        on_meta(transformers.Qwen2Config(**sizes, num_attention_heads=32, num_key_value_heads=32))
    )


def test_the_bytes_of_the_checks_are_those_of_the_models(real, dense):
    assert real.rest == speed.REST_BYTES
    assert real.expert == speed.EXPERT_BYTES
    assert real.per_step(8) == pytest.approx(speed.step_bytes(8))
    assert dense.per_step() == speed.DENSE_BYTES
    assert CARDS[0].bandwidth == speed.BANDWIDTH


# Exercise 1


def drawn(experts, chosen, batch):
    different = set()
    for _ in range(batch):
        different.update(random.sample(range(experts), chosen))
    return len(different)


def with_repeats(experts, chosen, batch):
    return len(set(random.choices(range(experts), k=chosen * batch)))


def test_drawing_is_right(capsys):
    random.seed(0)
    assert check_drawn_experts(drawn)
    assert "Right: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda experts, chosen, batch: None, "returns nothing"),
        (lambda experts, chosen, batch: chosen * batch, "count every choice"),
        (lambda experts, chosen, batch: 7, "the same number every time"),
        (with_repeats, "the same expert twice"),
        (lambda experts, chosen, batch: drawn(experts, chosen, batch) + random.randint(2, 5), "cannot be"),
    ],
)
def test_wrong_drawing(wrong, words, capsys):
    random.seed(0)
    assert not check_drawn_experts(wrong)
    assert words in capsys.readouterr().out


# Exercise 2


def test_the_crossing_is_right(real, dense, capsys):
    batch = 1
    while real.per_step(batch) <= dense.per_step(batch):
        batch += 1
    assert check_crossing(batch)
    assert "Right: " in capsys.readouterr().out
    assert not check_crossing(batch - 1)
    assert "still reads less" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong, words",
    [
        (1, "batch by batch"),
        (64, "a smaller batch"),
        (8.5, "whole number"),
        (0, "whole number"),
        ("9", "a number is asked for"),
        (True, "a number is asked for"),
    ],
)
def test_wrong_crossing(wrong, words, capsys):
    assert not check_crossing(wrong)
    assert words in capsys.readouterr().out


# Exercise 3


def test_the_limit_of_two_cards_is_right(real, capsys):
    assert check_two_cards(real.limit(CARDS[0].bandwidth, 8))
    assert "Right: " in capsys.readouterr().out


def test_wrong_limits_of_two_cards(real, capsys):
    right = real.limit(CARDS[0].bandwidth, 8)
    alone = real.limit(CARDS[0].bandwidth)
    wrong = {
        2 * right: "both memories at once",
        right / 2: "that is half",
        right / 8: "steps per second",
        8 * alone: "the same experts",
        alone: "for one answer",
        3.0: "divide the bytes",
    }
    for answer, words in wrong.items():
        assert not check_two_cards(answer)
        assert words in capsys.readouterr().out


# Exercise 4


def reusable(cached, prompt):
    count = 0
    while count < min(len(cached), len(prompt) - 1) and cached[count] == prompt[count]:
        count += 1
    return count


def equal_anywhere(cached, prompt):
    pairs = zip(cached, prompt[:-1], strict=False)
    return sum(old == new for old, new in pairs)


def whole_prompt(cached, prompt):
    return reusable(cached, [*prompt, None])


def test_the_common_beginning_is_right(capsys):
    assert check_reusable(reusable)
    assert "Right: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda cached, prompt: None, "returns nothing"),
        (equal_anywhere, "equal later does not"),
        (whole_prompt, "one token must be computed"),
        (lambda cached, prompt: len(cached), "Only the beginning"),
        (lambda cached, prompt: cached.index(prompt[0]), "The whole cache"),
    ],
)
def test_wrong_beginnings(wrong, words, capsys):
    assert not check_reusable(wrong)
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("check", [check_crossing, check_drawn_experts, check_reusable, check_two_cards])
def test_an_empty_starter(check, capsys):
    assert not check(...)
    assert "Not yet: " in capsys.readouterr().out
