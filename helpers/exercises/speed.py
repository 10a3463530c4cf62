"""Checks of notebook 07: experts drawn at random, bytes of a step, and a common beginning of tokens."""

import random
from collections.abc import Callable

from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import say

GB = 10**9
# The real model and Qwen1.5-7B, in bytes: what every token reads, and one expert.
LAYERS = 24
EXPERTS = 60
CHOSEN = 4
EXPERT_BYTES = 3 * 2048 * 1408 * 2
# All parameters, less the routed experts and the embedding, with 2 bytes each.
REST_BYTES = 2 * (14_315_784_192 - LAYERS * 519_045_120 - 311_164_928)
# Of each of its 32 layers: four matrices of attention with three biases, three of the MLP, two norms.
DENSE_LAYER = 4 * 4096**2 + 3 * 4096 + 3 * 4096 * 11008 + 2 * 4096
DENSE_BYTES = 2 * (32 * DENSE_LAYER + 4096 + 151936 * 4096)
BANDWIDTH = 936 * GB  # of an RTX 3090, bytes per second
ROOM = 0.02  # answers may be rounded by so much


def step_bytes(batch: int) -> float:
    """Bytes that a step of the real model reads for so many answers."""
    different = EXPERTS * (1 - (1 - CHOSEN / EXPERTS) ** batch)
    return REST_BYTES + LAYERS * different * EXPERT_BYTES


def is_near(answer: float, value: float) -> bool:
    """Whether an answer, perhaps rounded, means this value."""
    return abs(answer - value) <= ROOM * value


def need_number(answer) -> None:
    """WrongAnswerError unless the answer is a number."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise WrongAnswerError(say("a number is asked for, not {kind}.", kind=type(answer).__name__))


# --- exercise 1: experts drawn at random ---

CASES = ((60, 4, 8), (16, 4, 2), (8, 8, 3))  # experts, chosen, batch
DRAWS = 2000


@verdict
def check_drawn_experts(function: Callable[[int, int, int], int]) -> str:
    """Whether the function draws as many different experts, on average, as the formula says."""
    if function(16, 4, 2) is None:
        raise WrongAnswerError(
            say("your function returns nothing. Return how many different experts were chosen.")
        )
    for experts, chosen, batch in CASES:
        draws = [function(experts, chosen, batch) for _ in range(DRAWS)]
        expected = experts * (1 - (1 - chosen / experts) ** batch)
        compare_draws(draws, expected, experts, chosen, batch)
    return say("drawing and the formula agree, and no expert had to be counted twice.")


def compare_draws(draws: list, expected: float, experts: int, chosen: int, batch: int) -> None:
    """WrongAnswerError if these numbers of different experts cannot come from this choice."""
    mean = sum(draws) / len(draws)
    case = {"experts": experts, "chosen": chosen, "batch": batch}
    if len(set(draws)) == 1 and chosen < experts and batch > 1:
        if draws[0] == chosen * batch:
            raise WrongAnswerError(
                say(
                    "for {batch} tokens with {chosen} of {experts} experts you count every choice. An expert "
                    "that two tokens chose is read once.",
                    **case,
                )
            )
        raise WrongAnswerError(
            say("your function returns the same number every time: draw anew on each call.")
        )
    if is_near(mean, expected):
        return
    if is_near(mean, repeated_draws(**case)):
        raise WrongAnswerError(
            say(
                "one token seems to choose the same expert twice. Its {chosen} experts are different.",
                chosen=chosen,
            )
        )
    raise WrongAnswerError(
        say(
            "for {batch} tokens with {chosen} of {experts} experts you draw {mean:.1f} different ones on "
            "average, and that cannot be. Does every token choose from all experts?",
            mean=mean,
            **case,
        )
    )


def repeated_draws(experts: int, chosen: int, batch: int) -> float:
    """The mean if a token could choose the same expert more than once."""
    return experts * (1 - (1 - 1 / experts) ** (chosen * batch))


# --- exercise 2: where the mixture of experts reads more than the dense model ---


def crossing() -> int:
    """The smallest batch for which a step of the real model reads more."""
    batch = 1
    while step_bytes(batch) <= DENSE_BYTES:
        batch += 1
    return batch


@verdict
def check_crossing(batch) -> str:
    """The smallest batch for which the real model reads more bytes a step than Qwen1.5-7B."""
    need_number(batch)
    right = crossing()
    if batch == right:
        return say(
            "with {batch} answers a step reads {moe:.1f} GB, and the dense model always {dense:.1f} GB.",
            batch=right,
            moe=step_bytes(right) / GB,
            dense=DENSE_BYTES / GB,
        )
    if batch != int(batch) or batch < 1:
        raise WrongAnswerError(
            say("{batch} is no batch: a whole number from 1 on is asked for.", batch=batch)
        )
    if batch == right - 1:
        raise WrongAnswerError(say("with {batch} answers it still reads less.", batch=batch))
    if batch > right:
        raise WrongAnswerError(
            say("with {batch} answers it reads more, but a smaller batch does so too.", batch=batch)
        )
    raise WrongAnswerError(
        say("with {batch} answers it reads less. Compare per_step of both, batch by batch.", batch=batch)
    )


# --- exercise 3: the limit of two cards that work in turns ---

CARD_BATCH = 8


@verdict
def check_two_cards(rate) -> str:
    """Tokens per second that two RTX 3090 allow for a batch of 8."""
    need_number(rate)
    step = step_bytes(CARD_BATCH)
    right = CARD_BATCH * BANDWIDTH / step
    if is_near(rate, right):
        return say(
            "{rate:.0f} tokens per second, {each:.0f} for each reader. "
            "One reader alone could have {alone:.0f}.",
            rate=right,
            each=right / CARD_BATCH,
            alone=BANDWIDTH / step_bytes(1),
        )
    if is_near(rate, 2 * right):
        raise WrongAnswerError(
            say("that needs both memories at once, and only one of the cards reads at a time.")
        )
    if is_near(rate, right / 2):
        raise WrongAnswerError(
            say("that is half: each card reads only its own layers, so the times of both add up to one.")
        )
    if is_near(rate, right / CARD_BATCH):
        raise WrongAnswerError(say("those are steps per second. Each step gives every answer a token."))
    if is_near(rate, CARD_BATCH * BANDWIDTH / step_bytes(1)):
        raise WrongAnswerError(
            say("that is as if all answers used the same experts. How many different ones do they need?")
        )
    if is_near(rate, BANDWIDTH / step_bytes(1)):
        raise WrongAnswerError(say("that is the limit for one answer. The batch has 8."))
    raise WrongAnswerError(
        say("divide the bytes per second of one card by the bytes for each token, for a batch of 8.")
    )


# --- exercise 4: the common beginning ---

RANDOM_CASES = 200


@verdict
def check_reusable(function: Callable[[list[int], list[int]], int]) -> str:
    """Whether the function counts the tokens that need not be computed again."""
    if function([1, 2, 3], [1, 2, 4]) is None:
        raise WrongAnswerError(say("your function returns nothing. Return a number of tokens."))
    try_reusable(
        function, [7, 8, 9], [7, 8, 9, 5, 6], 3, say("The whole cache is the beginning of the prompt.")
    )
    try_reusable(
        function,
        [7, 8, 9, 1, 4],
        [7, 8, 5, 1, 4],
        2,
        say("Only the beginning counts: what is equal later does not."),
    )
    try_reusable(
        function, [7, 8, 9], [7, 8, 9], 2, say("The prompt is the same, but one token must be computed.")
    )
    try_reusable(function, [7, 8, 9, 4, 4], [7, 8], 1, say("The prompt is shorter than the cache."))
    try_reusable(function, [7, 8], [6, 8, 9], 0, say("The first token is another one."))
    try_reusable(function, [], [6, 8, 9], 0, say("The cache is empty."))
    generator = random.Random(0)
    for _ in range(RANDOM_CASES):
        cached = generator.choices((1, 2), weights=(5, 1), k=generator.randint(0, 8))
        prompt = generator.choices((1, 2), weights=(5, 1), k=generator.randint(1, 8))
        try_reusable(
            function,
            cached,
            prompt,
            common_beginning(cached, prompt),
            say("Go through the two lists by hand."),
        )
    return say(
        "and because it counts ids, a text that is cut into other tokens is computed again, as it must be."
    )


def common_beginning(cached: list[int], prompt: list[int]) -> int:
    """How many tokens of `prompt` are in the cache, at least one left to compute."""
    count = 0
    for old, new in zip(cached, prompt[:-1], strict=False):
        if old != new:
            break
        count += 1
    return count


def try_reusable(function, cached: list[int], prompt: list[int], right: int, hint: str) -> None:
    """WrongAnswerError, with the case, unless the function finds `right`."""
    answer = function(list(cached), list(prompt))
    if answer != right:
        raise WrongAnswerError(
            say(
                "cached {cached}, prompt {prompt}: yours gives {answer}. {hint}",
                cached=cached,
                prompt=prompt,
                answer=answer,
                hint=hint,
            )
        )
