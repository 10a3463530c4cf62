"""Check of notebook 07: which numbers of processes can share a model."""

from collections.abc import Callable
from typing import NamedTuple

from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import say, to_say

#: What a config.json says of its model; the first is the real model, the others are like it.
REAL = {
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_experts": 60,
    "moe_intermediate_size": 1408,
}
FEW_KEYS = REAL | {"num_key_value_heads": 2}
MANY_HEADS = REAL | {"num_attention_heads": 24, "num_key_value_heads": 24}


class Case(NamedTuple):
    """A question, its answer, and what somebody forgets who answers otherwise; `{n}`: processes."""

    config: dict[str, int]
    way: str
    processes: int
    is_possible: bool
    hint: str


CASES = [
    Case(REAL, "tensor", 2, True, to_say("what {n} processes must divide they can divide here.")),
    Case(REAL, "tensor", 16, True, to_say("what {n} processes must divide they can divide here.")),
    Case(REAL, "tensor", 5, False, to_say("{n} processes cannot share 16 heads equally.")),
    Case(
        FEW_KEYS,
        "tensor",
        4,
        False,
        to_say("with 2 heads of keys and values, {n} processes have not one each: look at both kinds."),
    ),
    Case(
        MANY_HEADS,
        "tensor",
        3,
        False,
        to_say("24 heads can be shared by {n} processes, but every expert is cut too: look at its width."),
    ),
    Case(
        MANY_HEADS,
        "experts",
        3,
        True,
        to_say("with whole experts, {n} processes need not cut the width of one."),
    ),
    Case(REAL, "experts", 4, True, to_say("{n} processes divide the heads, and the 60 experts too.")),
    Case(REAL, "experts", 8, False, to_say("{n} processes divide the heads, but not the 60 experts.")),
    Case(
        REAL,
        "experts",
        3,
        False,
        to_say("{n} processes divide the 60 experts, but attention is shared too: look at the heads."),
    ),
    Case(
        REAL,
        "pipeline",
        5,
        True,
        to_say("a pipeline shares layers, and some of {n} processes may have one more than others."),
    ),
    Case(REAL, "pipeline", 24, True, to_say("{n} processes of a pipeline have one layer each.")),
    Case(REAL, "pipeline", 25, False, to_say("{n} processes are more than there are layers.")),
]


@verdict
def check_sharing(function: Callable[[dict, str, int], bool]) -> str:
    """Whether the function says of each case what `helpers.speed` says."""
    for case in CASES:
        answer = function(dict(case.config), case.way, case.processes)
        if answer is None:
            raise WrongAnswerError(say("your function returns nothing. Return True or False."))
        if bool(answer) != case.is_possible:
            hint = say(case.hint, n=case.processes)
            raise WrongAnswerError(
                say(
                    "your function says {answer} for way={way} and processes={processes}: {hint}",
                    answer=bool(answer),
                    way=case.way,
                    processes=case.processes,
                    hint=hint,
                )
            )
    return say("now you know why people rent 2, 4 or 8 cards, and hardly ever 3.")
