"""The check of notebook 07 on shapes: right answers, and what each typical mistake hears."""

import pytest

from helpers import CourseError
from helpers.exercises.sharing import CASES, check_sharing
from helpers.speed.ways import Shape, check_way


def right(config, way, processes):
    if way == "pipeline":
        return processes <= config["num_hidden_layers"]
    heads = (config["num_attention_heads"], config["num_key_value_heads"])
    if any(count % processes for count in heads):
        return False
    if way == "experts":
        return config["num_experts"] % processes == 0
    return config["moe_intermediate_size"] % processes == 0


def test_a_right_answer(capsys):
    assert check_sharing(right)
    assert "Right: " in capsys.readouterr().out


@pytest.mark.parametrize("case", CASES)
def test_the_cases_are_what_the_course_itself_says(case):
    shape = Shape(
        case.config["num_hidden_layers"],
        case.config["num_attention_heads"],
        case.config["num_key_value_heads"],
        case.config["num_experts"],
        case.config["moe_intermediate_size"],
    )
    try:
        check_way(shape, case.way, case.processes)
        possible = True
    except CourseError:
        possible = False
    assert possible == case.is_possible


MISTAKES = {
    "always True": (lambda config, way, n: True, "5 processes cannot share 16 heads"),
    "always False": (lambda config, way, n: False, "what 2 processes must divide they can"),
    "no heads of keys and values": (
        lambda config, way, n: right(config | {"num_key_value_heads": n}, way, n),
        "look at both kinds",
    ),
    "no width": (lambda config, way, n: right(config | {"moe_intermediate_size": n}, way, n), "its width"),
    "width for experts too": (
        lambda config, way, n: right(config, way, n) and (way == "pipeline" or right(config, "tensor", n)),
        "need not cut the width",
    ),
    "experts not counted": (lambda config, way, n: right(config | {"num_experts": n}, way, n), "not the 60"),
    "only experts": (
        lambda config, way, n: right(config, way, n) or (way == "experts" and config["num_experts"] % n == 0),
        "look at the heads",
    ),
    "layers divided": (
        lambda config, way, n: right(config, way, n) and (way != "pipeline" or 24 % n == 0),
        "one more than others",
    ),
    "too many layers": (
        lambda config, way, n: way == "pipeline" or right(config, way, n),
        "more than there are",
    ),
    "nothing": (lambda config, way, n: None, "returns nothing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_hears_its_reason(mistake, capsys):
    function, reason = MISTAKES[mistake]
    assert not check_sharing(function)
    assert reason in capsys.readouterr().out


def test_an_empty_starter(capsys):
    assert not check_sharing(...)
    assert not check_sharing(lambda config, way, processes: ...)
    assert "Not yet: " in capsys.readouterr().out
