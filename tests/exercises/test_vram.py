"""The checks of notebook 02: right answers, and for each typical mistake the reason that it gets."""

import pytest
import torch
from answers import assert_wrong

from helpers import GB, GIB
from helpers.exercises.vram import (
    BUDGET_MISTAKES,
    CASES,
    KV_MISTAKES,
    WEIGHTS_OF_GPU_0,
    Budget,
    above_the_weights,
    check_kv_cache,
    check_longest_prompt,
    check_mixtral_cards,
    check_two_arrays,
    explain_kv_cache,
    kv_cache,
    longest_prompt,
)
from helpers.vram import forecast, largest_in_memory

TWO_CARDS = ["24GiB", "24GiB"]


# Exercise 1


def right_cache(config, batch, tokens):
    heads = config["num_key_value_heads"]
    return 2 * config["num_hidden_layers"] * heads * config["head_dim"] * 2 * batch * tokens


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cache_is_that_of_transformers(case):
    """The forecast lets transformers' own model fill its cache."""
    from transformers import MixtralConfig, Qwen3MoeConfig  # imported late: takes seconds

    kinds = {"Qwen3-30B-A3B": Qwen3MoeConfig, "Mixtral 8x7B": MixtralConfig}
    config = kinds[case.name](**case.config)
    request = {"batch": case.batch, "prompt": case.tokens, "new": 1}
    result = forecast(config, gpus=["400GiB"], **request)
    assert result["gpus"][0]["kv_cache"] == kv_cache(case)


def test_a_right_function(capsys):
    assert check_kv_cache(right_cache)
    text = capsys.readouterr().out
    assert text.startswith("Right: ")
    assert not any(f"{kv_cache(case):,}" in text for case in CASES)


WRONG_CACHES = {
    "query heads": (
        lambda c, b, t: 4 * c["num_hidden_layers"] * c["num_attention_heads"] * c["head_dim"] * b * t,
        "heads of the queries",
    ),
    "keys only": (lambda c, b, t: right_cache(c, b, t) // 2, "both keys and values"),
    "bits": (lambda c, b, t: 8 * right_cache(c, b, t), "Those are bits"),
    "fp32": (lambda c, b, t: 2 * right_cache(c, b, t), "twice as much"),
    "one layer": (lambda c, b, t: right_cache(c, b, t) // c["num_hidden_layers"], "one layer"),
    "hidden size": (
        lambda c, b, t: 4 * c["num_hidden_layers"] * c["hidden_size"] * b * t,
        "The hidden size is not the width",
    ),
    "no batch": (lambda c, b, t: right_cache(c, 1, t), "one sequence"),
    "no tokens": (lambda c, b, t: right_cache(c, b, 1), "one token"),
    "GiB": (lambda c, b, t: right_cache(c, b, t) / GIB, "in GiB"),
    "GB": (lambda c, b, t: right_cache(c, b, t) / GB, "in GB"),
    "GB and GiB": (lambda c, b, t: right_cache(c, b, t) / GB * GIB, "mixed up"),
    "nothing": (lambda c, b, t: None, "returns nothing yet"),
    "text": (lambda c, b, t: "much", "not str"),
    "unknown key": (lambda c, b, t: c["kv_heads"] * b, "kv_heads"),
    "no idea": (lambda c, b, t: 7 * right_cache(c, b, t), "too large"),
    "far too small": (lambda c, b, t: 12345, "too small"),
}


@pytest.mark.parametrize("name", WRONG_CACHES)
def test_wrong_functions(name, capsys):
    function, reason = WRONG_CACHES[name]
    secrets = [kv_cache(case) for case in CASES]
    assert_wrong(check_kv_cache(function), reason, capsys, secrets)


def test_a_head_of_hidden_size_through_heads_is_right_for_one_model_only(capsys):
    def wrong(config, batch, tokens):
        config["head_dim"] = config["hidden_size"] // config["num_attention_heads"]
        return right_cache(config, batch, tokens)

    assert_wrong(check_kv_cache(wrong), "Qwen3-30B-A3B", capsys)


def test_a_number_typed_in_is_noticed(capsys):
    def wrong(config, batch, tokens):
        return right_cache(CASES[0].config, batch, tokens)

    assert_wrong(check_kv_cache(wrong), "wrong for Mixtral 8x7B", capsys)


def test_two_mistakes_at_once(capsys):
    def wrong(config, batch, tokens):
        return 8 * right_cache(config, batch, tokens) / config["num_hidden_layers"]

    assert_wrong(check_kv_cache(wrong), "bits", capsys)
    assert not check_kv_cache(wrong)
    assert "one layer" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(len(KV_MISTAKES)))
def test_each_mistake_is_told_from_the_others(number):
    mistake = KV_MISTAKES[number]
    answers = [kv_cache(case, [mistake]) for case in CASES]
    assert explain_kv_cache(answers) == mistake.hint


def test_no_function(capsys):
    assert_wrong(check_kv_cache(98304), "a function is asked for", capsys)
    assert_wrong(check_kv_cache(...), "put your answer", capsys)


# Exercise 2


def test_weights_and_formula_are_those_of_the_forecast():
    row = forecast("real", gpus=TWO_CARDS, prompt=40_000)["gpus"][0]
    assert row["weights"] == WEIGHTS_OF_GPU_0
    by_hand = above_the_weights(40_000, Budget())
    assert by_hand == pytest.approx(row["prefill"] - row["weights"], rel=0.01)


def test_the_longest_prompt_agrees_with_the_search():
    searched = largest_in_memory("prompt", "real", gpus=TWO_CARDS)
    assert longest_prompt(Budget()) == pytest.approx(searched, rel=0.02)


@pytest.mark.parametrize("off", [0, -150, 150])
def test_the_longest_prompt(off, capsys):
    assert check_longest_prompt(longest_prompt(Budget()) + off)
    assert str(longest_prompt(Budget())) not in capsys.readouterr().out.replace(",", "")


@pytest.mark.parametrize(("budget", "hint"), BUDGET_MISTAKES)
def test_wrong_budgets(budget, hint, capsys):
    assert_wrong(check_longest_prompt(longest_prompt(budget)), hint, capsys, [longest_prompt(Budget())])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (32_768, "limit of the model"),
        (32_256, "limit of the model"),
        (2_048, "more do"),
        (70_000, "too many"),
        ("much", "not str"),
        (None, "put your answer"),
    ],
)
def test_wrong_prompts(answer, reason, capsys):
    assert_wrong(check_longest_prompt(answer), reason, capsys, [longest_prompt(Budget())])


# Exercise 3


def test_the_cards_for_mixtral(capsys):
    assert check_mixtral_cards(5)
    text = capsys.readouterr().out
    assert text.startswith("Right: ") and "5" not in text.replace("Qwen1.5", "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (2, "less than the weights alone"),
        (3, "less than the weights alone"),
        (4, "a layer is never cut in two"),
        (6, "so do fewer"),
        (0, "0 cards"),
        (4.5, "whole number"),
        ("five", "whole number"),
        (None, "put your answer"),
    ],
)
def test_wrong_numbers_of_cards(answer, reason, capsys):
    assert_wrong(check_mixtral_cards(answer), reason, capsys)


# Exercise 4


silu = torch.nn.functional.silu


def in_place(x, gate, up):
    result = torch.mm(x, gate)
    silu(result, inplace=True)
    result *= torch.mm(x, up)
    return result


def deletes_first(x, gate, up):
    first = torch.mm(x, gate)
    activated = silu(first)
    del first
    second = torch.mm(x, up)
    return activated.mul_(second)


@pytest.mark.parametrize("function", [in_place, deletes_first])
def test_two_arrays(function, capsys):
    assert check_two_arrays(function)
    assert capsys.readouterr().out.startswith("Right: ")


def changes_x(x, gate, up):
    result = in_place(x, gate, up)
    x.zero_()
    return result


WRONG_MLPS = {
    "as it was": (lambda x, gate, up: silu(x @ gate) * (x @ up), "3 arrays"),
    "only silu in place": (lambda x, gate, up: silu(x @ gate, inplace=True) * (x @ up), "3 arrays"),
    "other way round": (lambda x, gate, up: (x @ gate) * silu(x @ up), "the other one"),
    "no silu": (lambda x, gate, up: (x @ gate).mul_(x @ up), "silu is missing"),
    "silu at the end": (lambda x, gate, up: silu((x @ gate) * (x @ up)), "before the product"),
    "no product": (lambda x, gate, up: silu(x @ gate), "product with x @ up is missing"),
    "sum": (lambda x, gate, up: silu(x @ gate) + (x @ up), "not added"),
    "changes x": (changes_x, "it changes x"),
    "other shape": (lambda x, gate, up: x, "shape"),
    "other numbers": (lambda x, gate, up: x @ gate + 3, "its result is not"),
    "nothing": (lambda x, gate, up: None, "returns nothing yet"),
    "empty": (lambda x, gate, up: ..., "returns nothing yet"),
    "fails": (lambda x, gate, up: gate @ x, "cannot be checked (RuntimeError"),
}


@pytest.mark.parametrize("name", WRONG_MLPS)
def test_wrong_mlps(name, capsys):
    function, reason = WRONG_MLPS[name]
    assert_wrong(check_two_arrays(function), reason, capsys)


def test_no_mlp(capsys):
    assert_wrong(check_two_arrays(3), "a function is asked for", capsys)
