"""Checks of notebook 02: a KV cache from nothing, two limits of memory, and an MLP with two arrays.

What they say of a right answer does not repeat it: JupyterLab opens the outputs of solutions when all cells
are run.
"""

import math
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

from helpers import GB, GIB
from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import say, to_say
from helpers.terminal import in_a_row

# Exercise 1


class Case(NamedTuple):
    """A model and a request."""

    name: str
    config: dict[str, int]
    batch: int
    tokens: int


#: Source of the sizes: the config.json of each model. Widths, heads and layers are chosen to differ, so that
#: no two mistakes give the same pair of numbers.
CASES = (
    Case(
        name="Qwen3-30B-A3B",
        config={
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "head_dim": 128,
            "num_hidden_layers": 48,
            "num_key_value_heads": 4,
        },
        batch=3,
        tokens=8192,
    ),
    Case(
        name="Mixtral 8x7B",
        config={
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "head_dim": 128,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
        },
        batch=5,
        tokens=1000,
    ),
)


class Mistake(NamedTuple):
    """Factors of the product that somebody takes for others, and a hint."""

    changes: Callable[[Case], dict[str, float]]
    hint: str


def factors(case: Case) -> dict[str, float]:
    """What the bytes of a KV cache are the product of."""
    return {
        "keys and values": 2,
        "layers": case.config["num_hidden_layers"],
        "heads": case.config["num_key_value_heads"],
        "head size": case.config["head_dim"],
        "bytes": 2,
        "batch": case.batch,
        "tokens": case.tokens,
        "unit": 1,
    }


#: A mistake alone comes before pairs of them: an answer is explained by as few mistakes as possible.
KV_MISTAKES = [
    Mistake(
        lambda case: {"heads": case.config["num_attention_heads"]},
        to_say("Do all the heads of the queries have keys and values of their own?"),
    ),
    Mistake(
        lambda case: {"heads": case.config["hidden_size"], "head size": 1},
        to_say(
            "The hidden size is not the width of the keys: how many heads do they have, and how wide is one?"
        ),
    ),
    Mistake(
        lambda case: {"head size": case.config["hidden_size"] // case.config["num_attention_heads"]},
        to_say("One head need not be hidden_size / heads wide: the config says how wide it is."),
    ),
    Mistake(lambda case: {"head size": 1}, to_say("A head is more than one number.")),
    Mistake(lambda case: {"heads": 1}, to_say("That is one head of keys and values. How many are there?")),
    Mistake(
        lambda case: {"keys and values": 1},
        to_say("It is half of it: are both keys and values there, and two bytes for each number?"),
    ),
    Mistake(
        lambda case: {"bytes": 4},
        to_say("It is twice as much: a number in bf16 takes two bytes, and keys and values count once each."),
    ),
    Mistake(lambda case: {"bytes": 16}, to_say("Those are bits. Bytes are asked for.")),
    Mistake(
        lambda case: {"keys and values": 1, "bytes": 1}, to_say("Keys and values, two bytes for each number.")
    ),
    Mistake(
        lambda case: {"layers": 1}, to_say("That is one layer. Does each layer have a cache of its own?")
    ),
    Mistake(lambda case: {"batch": 1}, to_say("That is one sequence: what about the batch?")),
    Mistake(lambda case: {"tokens": 1}, to_say("That is one token. How many are kept?")),
    Mistake(
        lambda case: {"tokens": case.tokens**2},
        to_say("The cache grows with the tokens, not with their square."),
    ),
    Mistake(lambda case: {"unit": 1 / GIB}, to_say("That is in GiB. Bytes are asked for.")),
    Mistake(lambda case: {"unit": 1 / GB}, to_say("That is in GB. Bytes are asked for.")),
    Mistake(lambda case: {"unit": 2**10 / GIB}, to_say("That is in MiB. Bytes are asked for.")),
    Mistake(lambda case: {"unit": 1 / 2**10}, to_say("That is in KiB. Bytes are asked for.")),
    Mistake(lambda case: {"unit": GB / GIB}, to_say("GB and GiB are mixed up: plain bytes need neither.")),
    Mistake(lambda case: {"unit": GIB / GB}, to_say("GB and GiB are mixed up: plain bytes need neither.")),
]


def kv_cache(case: Case, mistakes=()) -> float:
    """Bytes of the KV cache in bf16, if these mistakes are made."""
    parts = factors(case)
    for mistake in mistakes:
        parts |= mistake.changes(case)
    return math.prod(parts.values())


def answer_of(function: Callable, case: Case) -> float:
    """What the learner's function says; WrongAnswerError if it says no number."""
    try:
        answer = function(dict(case.config), case.batch, case.tokens)
    except KeyError as error:
        raise WrongAnswerError(
            say("config has no {error}: its keys are those in the text above.", error=error)
        ) from error
    if answer is None or answer is Ellipsis:
        raise WrongAnswerError(say("the function returns nothing yet."))
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise WrongAnswerError(
            say("the function is to return a number, not {kind}.", kind=type(answer).__name__)
        )
    return answer


def explain_kv_cache(answers: list[float]) -> str:
    """The hints of the one mistake, or else of the two, that lead to these answers; "" if none do."""
    for size in (1, 2):
        for mistakes in combinations(KV_MISTAKES, size):
            wrong = [kv_cache(case, mistakes) for case in CASES]
            if all(map(is_close, answers, wrong)):
                return in_a_row(*[say(mistake.hint) for mistake in mistakes])
    return ""


def is_close(answer: float, value: float) -> bool:
    """Whether two numbers are the same, apart from the rounding of a division."""
    return math.isclose(answer, value, rel_tol=1e-9)


@verdict
def check_kv_cache(function):
    """A function (config, batch, tokens) -> bytes of the KV cache in bf16, with grouped-query attention."""
    if not callable(function):
        raise WrongAnswerError(say("a function is asked for, not {kind}.", kind=type(function).__name__))
    answers = [answer_of(function, case) for case in CASES]
    rights = [is_close(answer, kv_cache(case)) for answer, case in zip(answers, CASES, strict=True)]
    if all(rights):
        return say(
            "for both models. If every head of the queries had keys and values of its own, the caches "
            "would be eight and four times as large: this is what grouped-query attention saves."
        )
    if any(rights):
        wrong = CASES[rights.index(False)]
        raise WrongAnswerError(
            say(
                "it is right for one model, and wrong for {model} (batch {batch}, {tokens:,} tokens). Is a "
                "number in it that belongs into `config`?",
                model=wrong.name,
                batch=wrong.batch,
                tokens=wrong.tokens,
            )
        )
    hints = explain_kv_cache(answers)
    if hints:
        raise WrongAnswerError(hints)
    first = CASES[0]
    too_far = say("{answer:,} bytes for {model} is too large.", answer=answers[0], model=first.name)
    if answers[0] < kv_cache(first):
        too_far = say("{answer:,} bytes for {model} is too small.", answer=answers[0], model=first.name)
    begin = say(
        "Begin with one token in one layer: a key and a value for each head that has them; then layers, "
        "tokens and batch."
    )
    raise WrongAnswerError(in_a_row(too_far, begin))


# Exercise 2


class Budget(NamedTuple):
    """What somebody may count on for the longest prompt on GPU 0, in bytes."""

    layers: int = 12
    card: float = 24 * GIB
    context: float = 0.5 * GIB
    allocator: float = 1.1
    mask: bool = True
    cache: bool = True
    arrays: bool = True


WEIGHTS_OF_GPU_0 = 14_315_782_144  # half of the real model: 12 layers and the embedding

BUDGET_MISTAKES = [
    (Budget(allocator=1), to_say("Leave 10 % of what lies above the weights for the allocator.")),
    (Budget(context=0), to_say("Leave 0.5 GiB for the CUDA context.")),
    (Budget(allocator=1, context=0), to_say("Leave room for the CUDA context and for the allocator.")),
    (Budget(card=24 * GB), to_say("A card of 24 GiB has 24 x 2^30 bytes, not 24 x 10^9.")),
    (Budget(layers=24), to_say("GPU 0 holds 12 of the 24 layers, and only their cache.")),
    (Budget(mask=False), to_say("The mask of prompt x prompt bytes is missing.")),
    (
        Budget(arrays=False),
        to_say("That is the cache and the mask alone: prefill has more arrays at its peak."),
    ),
    (Budget(arrays=False, mask=False), to_say("That is the cache alone: prefill has more at its peak.")),
]
NEAR = 0.004  # share by which an answer may be off to count as one of these mistakes


def above_the_weights(prompt: int, budget: Budget) -> float:
    """Bytes of prefill for one prompt, by the closed form of the notebook."""
    hidden = 2048
    chosen = 4
    size = 2  # bytes of a number in bf16
    cache = 2 * budget.layers * hidden * size * prompt
    total = cache
    if budget.arrays:
        total += (4 * chosen + 5) * hidden * size * prompt
    if budget.mask:
        total += prompt**2
    return total


def longest_prompt(budget: Budget) -> int:
    """The longest prompt that a budget allows, to a token."""
    room = (budget.card - budget.context - WEIGHTS_OF_GPU_0) / budget.allocator
    fitting = 0
    too_long = 2**20
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        if above_the_weights(middle, budget) <= room:
            fitting = middle
        else:
            too_long = middle
    return fitting


@verdict
def check_longest_prompt(prompt):
    """The longest prompt, in tokens, for which the memory of two cards of 24 GiB is enough."""
    if isinstance(prompt, bool) or not isinstance(prompt, int | float):
        raise WrongAnswerError(
            say("a number of tokens is asked for, not {kind}.", kind=type(prompt).__name__)
        )
    right = longest_prompt(Budget())
    if abs(prompt / right - 1) <= 2 * NEAR:
        return say(
            "the forecast's own search (section 8.2) differs by one or two percent: it also counts what "
            "the formula leaves out. But the model was trained for fewer positions: nobody taught it to "
            "use such a prompt."
        )
    if prompt in (32_768, 32_768 - 512):
        raise WrongAnswerError(say("that is the limit of the model. The question is what the memory allows."))
    for budget, hint in BUDGET_MISTAKES:
        if abs(prompt / longest_prompt(budget) - 1) <= NEAR:
            raise WrongAnswerError(say(hint))
    if prompt < right:
        raise WrongAnswerError(
            say("{prompt:,} tokens fit, and more do. Try a longer prompt in your formula.", prompt=prompt)
        )
    raise WrongAnswerError(
        say(
            "{prompt:,} tokens are too many: weights, 0.5 GiB, and 1.1 times what prefill adds must stay "
            "below 24 GiB.",
            prompt=prompt,
        )
    )


# Exercise 3


@verdict
def check_mixtral_cards(count):
    """How many cards of 24 GiB hold Mixtral 8x7B with one prompt of 2,048 tokens and 512 new ones."""
    from transformers import MixtralConfig  # imported late: takes seconds

    from helpers.vram import forecast  # imported late: torch and transformers take seconds

    if isinstance(count, bool) or not isinstance(count, int | float) or count != int(count):
        raise WrongAnswerError(say("a whole number of cards is asked for."))
    count = int(count)
    if not 1 <= count <= 64:
        raise WrongAnswerError(say("{count} cards do not go into one machine.", count=count))
    result = forecast(MixtralConfig(dtype="bfloat16"), gpus=["24GiB"] * count)
    if not result["fits"]:
        weights = sum(row["weights"] for row in result["gpus"]) + result["offloaded"]
        if count * 24 * GIB < weights:
            raise WrongAnswerError(
                say(
                    "{count} x 24 GiB are less than the weights alone, {weights:.1f} GiB.",
                    count=count,
                    weights=weights / GIB,
                )
            )
        raise WrongAnswerError(
            say(
                "{count} x 24 GiB are more than the {weights:.1f} GiB of weights, and it does not fit: a "
                "layer is never cut in two, each card has a CUDA context, and the request needs room as "
                "well.",
                count=count,
                weights=weights / GIB,
            )
        )
    if count > 1 and forecast(MixtralConfig(dtype="bfloat16"), gpus=["24GiB"] * (count - 1))["fits"]:
        raise WrongAnswerError(say("{count} cards hold it, and so do fewer.", count=count))
    cache = sum(row["kv_cache"] for row in result["gpus"]) / (2048 + 512 - 1)
    return say(
        "more than three times the weights of Qwen1.5-MoE. Its cache is smaller: {cache:.0f} KiB a "
        "token, since four heads of the queries share one of keys and values.",
        cache=cache / 2**10,
    )


# Exercise 4


class Inputs(NamedTuple):
    """The arrays that the MLP gets."""

    x: object  # (tokens, hidden)
    gate: object  # (hidden, width)
    up: object  # (hidden, width)


def mlp_inputs(device: str) -> Inputs:
    """Inputs with numbers on "cpu", without on "meta"."""
    import torch  # imported late: takes seconds

    def draw(*shape: int):
        if device == "meta":
            return torch.empty(shape, device="meta")
        return torch.randn(shape, generator=generator)

    generator = torch.Generator().manual_seed(0)
    return Inputs(x=draw(30, 40), gate=draw(40, 100), up=draw(40, 100))


def check_result(function: Callable) -> None:
    """WrongAnswerError if the function's result is not that of the MLP, or if it changes its inputs."""
    import torch  # imported late: takes seconds

    inputs = mlp_inputs("cpu")
    before = Inputs(*(tensor.clone() for tensor in inputs))
    result = function(*inputs)
    if result is None or result is Ellipsis:
        raise WrongAnswerError(say("the function returns nothing yet."))
    for name, now, then in zip(Inputs._fields, inputs, before, strict=True):
        if not torch.equal(now, then):
            raise WrongAnswerError(say("it changes {name}, which the next call needs.", name=name))
    gate = torch.mm(before.x, before.gate)
    up = torch.mm(before.x, before.up)
    if not isinstance(result, torch.Tensor) or result.shape != gate.shape:
        raise WrongAnswerError(say("it does not return an array of the shape of x @ gate."))
    silu = torch.nn.functional.silu
    wrong = {
        to_say("the other one goes through silu."): gate * silu(up),
        to_say("silu is missing."): gate * up,
        to_say("silu comes before the product with x @ up, not after it."): silu(gate * up),
        to_say("the product with x @ up is missing."): silu(gate),
        to_say("the two are multiplied, not added."): silu(gate) + up,
    }
    if torch.allclose(result, silu(gate) * up, atol=1e-4):
        return
    for hint, value in wrong.items():
        if torch.allclose(result, value, atol=1e-4):
            raise WrongAnswerError(say(hint))
    raise WrongAnswerError(say("its result is not silu(x @ gate) * (x @ up)."))


@verdict
def check_two_arrays(function):
    """A function (x, gate, up) -> silu(x @ gate) * (x @ up) with at most two arrays alive at its peak."""
    from helpers.vram.ledger import Ledger  # imported late: torch takes seconds

    if not callable(function):
        raise WrongAnswerError(say("a function is asked for, not {kind}.", kind=type(function).__name__))
    check_result(function)
    inputs = mlp_inputs("meta")
    with Ledger(inputs, block=1) as ledger:
        result = function(*inputs)
    arrays = ledger.peak[0] / result.nbytes
    if arrays > 2:
        raise WrongAnswerError(
            say(
                "the result is right, and {arrays:.3g} arrays are alive at the peak. Which operation makes a "
                "new array although one is there that nobody needs any more?",
                arrays=arrays,
            )
        )
    return say(
        "a third of the peak is gone. During training it could not be done: there the array before "
        "silu is needed once more, for the gradient."
    )
