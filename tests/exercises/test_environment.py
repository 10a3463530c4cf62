"""The checks of notebook 01: right answers, and for each typical mistake the reason that it gets."""

from dataclasses import replace

import pytest
from answers import assert_right, assert_wrong
from rented_machine import RENTED, RTX_3090

from helpers import GB, GIB
from helpers.environment import REAL_MODEL
from helpers.exercises.counting import MIXTRAL_MISTAKES, PARTS, count_mixtral
from helpers.exercises.environment import (
    ACTIVATED,
    check_careless,
    check_driver,
    check_eight_experts,
    check_mixtral,
    check_smallest_card,
)

RIGHT = count_mixtral()
BROKEN = replace(RENTED, driver="570.124.06", torch_cuda="13.0")
REPAIRED = replace(BROKEN, torch_cuda="12.6")
CARELESS = replace(RENTED, disk="system disk", free_disk=22 * GB)


# Exercise 1


def test_the_count_is_that_of_transformers():
    import torch  # imported late: takes seconds, and only this test needs it
    from transformers import MixtralConfig, MixtralForCausalLM  # imported late: takes seconds

    with torch.device("meta"):
        model = MixtralForCausalLM(MixtralConfig())  # its default values are those of Mixtral 8x7B
    assert RIGHT.total == sum(parameter.numel() for parameter in model.parameters())
    skipped = 6 * 3 * 4096 * 14336 * 32
    assert RIGHT.activated == RIGHT.total - skipped


def test_the_right_count(capsys):
    secrets = ["46.7", "12.9", "only the experts"]
    for answer in (RIGHT, map(float, RIGHT)):
        assert_right(check_mixtral(*answer), "its makers announced", capsys, secrets)


@pytest.mark.parametrize("mistake", MIXTRAL_MISTAKES, ids=lambda mistake: ", ".join(mistake.changes))
def test_each_mistake_gets_its_reason(mistake, capsys):
    wrong = count_mixtral(**mistake.changes)
    secrets = set(RIGHT) - set(wrong)
    if wrong.total != RIGHT.total:
        assert_wrong(check_mixtral(wrong.total, wrong.activated), mistake.hint, capsys, secrets)
    if wrong.activated != RIGHT.activated:
        reason = mistake.hint
        if wrong.activated == RIGHT.total:
            reason = "That is the total"
        assert_wrong(check_mixtral(RIGHT.total, wrong.activated), reason, capsys, [RIGHT.activated])


def test_two_mistakes_get_two_reasons(capsys):
    wrong = count_mixtral(keys=4096 * 4096, values=4096 * 4096, head=0)
    assert_wrong(check_mixtral(wrong.total, None), "num_key_value_heads", capsys)
    check_mixtral(wrong.total, None)
    assert "tie_word_embeddings" in capsys.readouterr().out


def test_no_two_mistakes_look_alike():
    counted = [count_mixtral(**mistake.changes) for mistake in MIXTRAL_MISTAKES]
    assert len(set(counted)) == len(counted)
    for mistake in MIXTRAL_MISTAKES:
        assert set(mistake.changes) <= set(PARTS)


@pytest.mark.parametrize(
    ("total", "activated", "reason"),
    [
        (56 * 10**9, None, "The name is no formula"),
        (RIGHT.activated, RIGHT.total, "what you give as total is the activated number"),
        (RIGHT.total, RIGHT.total, "That is the total"),
        (RIGHT.total, RIGHT.total * 2 // 8, "2 of 8 holds for the experts only"),
        (RIGHT.total + 17, None, "It is close"),
        (3 * RIGHT.total, None, "Count one layer, part by part"),
        (46.7, 12.9, "looks like billions"),
        (46.7e9, None, "It is close"),
        ("46702792704", None, "a number is asked for, not str"),
        (True, None, "a number is asked for, not bool"),
        (None, RIGHT.activated, "start with the total"),
        (RIGHT.total, None, "is right. Now the activated"),
        (RIGHT.total, ..., "is right. Now the activated"),
        (RIGHT.total + 0.5, None, "has a fraction"),
        (float("nan"), None, "cannot be checked"),
        (None, None, "put your answer into this cell"),
        (..., ..., "put your answer into this cell"),
    ],
)
def test_other_wrong_counts(total, activated, reason, capsys):
    assert_wrong(check_mixtral(total, activated), reason, capsys)


# Exercise 2

EXPERT = 3 * 2048 * 1408
EIGHT = ACTIVATED + 24 * 4 * EXPERT


def test_eight_experts(capsys):
    secrets = ["3.52", "26.67", "does not depend"]
    assert_right(check_eight_experts(EIGHT), "but not twice 2.69 billion", capsys, secrets)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ACTIVATED, "that is the number for 4 experts"),
        (REAL_MODEL.total, "that is the total"),
        (2 * ACTIVATED, "do not double"),
        (ACTIVATED + 4 * EXPERT, "How many layers"),
        (ACTIVATED + 24 * 8 * EXPERT, "as much as eight experts"),
        (ACTIVATED + 24 * 4 * 2 * 2048 * 1408, "three matrices"),
        (EIGHT + 24 * 3 * 2048 * 5632, "the shared one stays"),
        (24 * 8 * EXPERT, "the chosen experts alone"),
        (3.52, "looks like billions"),
        (EIGHT + 1, "is wrong"),
        ("many", "a number is asked for"),
        (None, "put your answer into this cell"),
    ],
)
def test_wrong_counts_of_eight_experts(answer, reason, capsys):
    assert_wrong(check_eight_experts(answer), reason, capsys, [EIGHT])


# Exercise 3


def test_the_driver_stays_and_the_torch_is_replaced(capsys):
    secrets = ["torch", "pip", "12.6"]
    assert_right(check_driver(BROKEN, REPAIRED), "can do this repair", capsys, secrets)


@pytest.mark.parametrize(
    ("broken", "repaired", "reason"),
    [
        (RENTED, REPAIRED, "the driver of your first machine is 580.82.07"),
        (replace(RENTED, driver="570.124.06"), REPAIRED, "built with CUDA 12.8"),
        (replace(BROKEN, gpus=(RTX_3090,), ram=8 * GIB, free_disk=31 * GB), REPAIRED, "something else fails"),
        (BROKEN, None, "the first machine is right"),
        (BROKEN, BROKEN, "fails as well"),
        (BROKEN, RENTED, "the driver belongs to the host"),
        (BROKEN, replace(REPAIRED, torch_cuda=""), "something else fails too: torch"),
        (BROKEN, replace(REPAIRED, python="3.10.8"), "something else fails too: Python"),
        (BROKEN, "pip install torch", "the second answer is to be a machine"),
        ("driver", None, "the first answer is to be a machine"),
        (None, REPAIRED, "the first answer is to be a machine"),
        (None, None, "put your answer into this cell"),
    ],
)
def test_wrong_machines_with_a_driver(broken, repaired, reason, capsys):
    assert_wrong(check_driver(broken, repaired), reason, capsys)


# Exercise 4


def test_the_careless_machine(capsys):
    secrets = ["fail", "does not go", "part of the course"]
    assert_right(check_careless(CARELESS), "that is the machine", capsys, secrets)


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (RENTED, "still goes to the data disk"),
        (replace(RENTED, free_disk=22 * GB), "still goes to the data disk"),
        (replace(CARELESS, disk="system"), "the check knows 'data disk' and 'system disk'"),
        (replace(CARELESS, free_disk=22 * GIB), "22 GiB are 7 % more"),
        (replace(CARELESS, free_disk=22), "the field counts bytes"),
        (replace(CARELESS, free_disk=49 * GB), "49.0 GB are free on it, not 22"),
        (replace(CARELESS, torch_cuda=""), "something else fails too: torch"),
        (22 * GB, "the answer is to be a machine"),
        (None, "put your answer into this cell"),
    ],
)
def test_wrong_careless_machines(machine, reason, capsys):
    assert_wrong(check_careless(machine), reason, capsys)


# Exercise 5


def test_the_smallest_card(capsys):
    for gib in (31, 31.0):
        assert_right(check_smallest_card(gib), "the next larger one", capsys, ["31", "32", "26.67"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (24, "less than the weights alone"),
        (27, "not enough besides"),
        (28, "not enough besides"),
        (30, "not enough besides"),
        (32, "and so is less"),
        (40, "and so is less"),
        (30.2, "a whole number"),
        (31 * GIB, "asked for in GiB"),
        (0, "asked for in GiB"),
        (-31, "asked for in GiB"),
        ("31 GiB", "a number of GiB is asked for, not str"),
        (float("inf"), "cannot be checked"),
        (None, "put your answer into this cell"),
    ],
)
def test_wrong_smallest_cards(answer, reason, capsys):
    assert_wrong(check_smallest_card(answer), reason, capsys)
