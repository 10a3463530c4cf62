"""Checks of notebook 06: a router and a hook from nothing, shares of probability and load, bytes to read."""

from typing import NamedTuple

import numpy as np
import torch

from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import listed, say, to_say

# Qwen1.5-MoE-A2.7B: config.json
LAYERS = 24
EXPERTS = 60
CHOSEN = 4
EXPERT_BYTES = 3 * 2048 * 1408 * 2  # three matrices in bf16

TOLERANCE = 1e-3  # of a probability


class RouterParts(NamedTuple):
    """What a router returns."""

    scores: torch.Tensor
    """(tokens, experts)"""
    weights: torch.Tensor
    """(tokens, k)"""
    experts: torch.Tensor
    """(tokens, k) whole numbers"""


class CheckedRouter(torch.nn.Module):
    """The router that a learner's hook is tried on."""

    def __init__(self, hidden_size: int, num_experts: int, top_k: int):
        super().__init__()
        self.scores = torch.nn.Linear(hidden_size, num_experts, bias=False)
        self.top_k = top_k

    def forward(self, states):
        """Scores (tokens, experts), weights and experts (tokens, k) of states (tokens, hidden size)."""
        scores = self.scores(states)
        weights, experts = scores.softmax(-1).topk(self.top_k)
        return scores, weights, experts


def random_numbers(*shape: int) -> torch.Tensor:
    """The same numbers each time; the learner's own random numbers stay as they are."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


def are_close(first, second) -> bool:
    """Whether two tensors have one shape and, but for rounding, the same numbers."""
    return first.shape == second.shape and torch.allclose(first.float(), second.float(), atol=TOLERANCE)


def router_parts(output) -> RouterParts:
    """What a learner's code returned, if it is three tensors; else WrongAnswerError."""
    if output is None or output is Ellipsis:
        raise WrongAnswerError(
            say("nothing is returned yet: return scores, weights and experts, in this order.")
        )
    if not isinstance(output, tuple | list) or len(output) != 3:
        raise WrongAnswerError(
            say("three things are to be returned: scores, weights and experts, in this order.")
        )
    if not all(isinstance(part, torch.Tensor) for part in output):
        raise WrongAnswerError(say("scores, weights and experts are to be three tensors."))
    parts = RouterParts(*output)
    if parts.experts.is_floating_point():
        raise WrongAnswerError(say("the third part has fractions: it is to hold the numbers of the experts."))
    return parts


# Exercise 1


@verdict
def check_router(router_class):
    """A class of modules: `router_class(hidden_size, num_experts, top_k)`, called with states."""
    if not isinstance(router_class, type):
        raise WrongAnswerError(
            say("hand over the class itself, without brackets: the check makes its own router.")
        )
    if not issubclass(router_class, torch.nn.Module):
        raise WrongAnswerError(say("the class is to be a torch.nn.Module: only modules can have hooks."))
    for hidden_size, num_experts, top_k in ((12, 8, 3), (6, 5, 2)):
        try_router(router_class, hidden_size, num_experts, top_k)
    return say(
        "that is all a router is. Each of the real model's has 2,048 x 60 numbers, and a layer of it "
        "has 570 million."
    )


def try_router(router_class, hidden_size: int, num_experts: int, top_k: int) -> None:
    """WrongAnswerError if a router of these sizes does not choose as it should."""
    router = router_class(hidden_size, num_experts, top_k)
    states = random_numbers(7, hidden_size)
    with torch.no_grad():
        parts = router_parts(router(states))
        matrix = matrix_of(router, hidden_size, num_experts)
        matrix.copy_(2 * random_numbers(*matrix.shape))  # clear choices
        parts = router_parts(router(states))
        if matrix.shape[0] == hidden_size and matrix.shape[1] == num_experts:
            scores = states @ matrix
        else:
            scores = states @ matrix.T
    check_scores(parts.scores, scores)
    check_experts(parts.experts, scores, top_k)
    check_weights(parts.weights, scores, parts.experts)


def matrix_of(router, hidden_size: int, num_experts: int) -> torch.Tensor:
    """The one parameter of a router; WrongAnswerError if it has none, or others."""
    parameters = list(router.parameters())
    if not parameters:
        raise WrongAnswerError(
            say("your router has no parameters: make its matrix in __init__, as a torch.nn.Linear.")
        )
    shapes = [tuple(parameter.shape) for parameter in parameters]
    if (num_experts,) in shapes:
        raise WrongAnswerError(say("your router has a bias; the routers of this model have only a matrix."))
    if len(shapes) > 1 or set(shapes[0]) != {hidden_size, num_experts}:
        raise WrongAnswerError(
            say(
                "for {hidden_size} numbers a state and {num_experts} experts your router has parameters of "
                "the shapes {shapes}: one matrix is enough, with a row for each expert.",
                hidden_size=hidden_size,
                num_experts=num_experts,
                shapes=shapes,
            )
        )
    return parameters[0]


def check_scores(answer, scores) -> None:
    """WrongAnswerError if these are not the scores (tokens, experts)."""
    if are_close(answer, scores.softmax(-1)):
        raise WrongAnswerError(
            say("the first part holds probabilities: return the scores before the softmax.")
        )
    if answer.shape != scores.shape:
        raise WrongAnswerError(
            say(
                "for {states} states and {experts} experts the scores have the shape {shape}: each state has "
                "a score for each expert.",
                states=scores.shape[0],
                experts=scores.shape[1],
                shape=tuple(answer.shape),
            )
        )
    if not are_close(answer, scores):
        raise WrongAnswerError(say("the scores are not the states times your matrix."))


def check_experts(answer, scores, top_k: int) -> None:
    """WrongAnswerError if these are not the experts (tokens, k) with the largest scores, largest first."""
    if answer.shape != (len(scores), top_k):
        raise WrongAnswerError(
            say(
                "with top_k={top_k} and {states} states the experts have the shape {shape}: each state "
                "gets k of them.",
                top_k=top_k,
                states=len(scores),
                shape=tuple(answer.shape),
            )
        )
    right = scores.topk(top_k).indices
    if torch.equal(answer, right):
        return
    if torch.equal(answer.sort(-1).values, right.sort(-1).values):
        raise WrongAnswerError(
            say("the experts are the right ones, but not in order: the largest comes first.")
        )
    if torch.equal(answer, (-scores).topk(top_k).indices):
        raise WrongAnswerError(say("those are the experts with the smallest scores."))
    if torch.equal(answer, scores.softmax(0).topk(top_k).indices):
        raise WrongAnswerError(
            say(
                "your softmax runs over the tokens. Each token shares its 1 among the experts: which "
                "dimension?"
            )
        )
    raise WrongAnswerError(say("the experts are not those with the largest scores of each state."))


def check_weights(answer, scores, experts) -> None:
    """WrongAnswerError if these are not the probabilities (tokens, k) of the experts."""
    probabilities = scores.softmax(-1)
    right = probabilities.gather(-1, experts)
    if are_close(answer, right):
        return
    if are_close(answer, probabilities):
        raise WrongAnswerError(say("those are the weights of all experts: return those of the chosen ones."))
    if are_close(answer, right / right.sum(-1, keepdim=True)):
        raise WrongAnswerError(
            say(
                "your weights sum to 1: the softmax runs over the chosen scores only, or they were "
                "divided by their sum. With norm_topk_prob=false the experts that were not chosen keep "
                "their share."
            )
        )
    if are_close(answer, scores.gather(-1, experts)):
        raise WrongAnswerError(say("those are scores: a softmax makes weights of them."))
    if are_close(answer, scores.gather(-1, experts).sigmoid()):
        raise WrongAnswerError(say("a sigmoid looks at each score alone; here the experts share a softmax."))
    if are_close(answer, scores.softmax(0).gather(-1, experts)):
        raise WrongAnswerError(say("your softmax runs over the tokens, not over the experts."))
    if are_close(answer.sort(-1).values, right.sort(-1).values):
        raise WrongAnswerError(say("the weights are the right ones, but in another order than the experts."))
    raise WrongAnswerError(say("the weights are not the probabilities of the chosen experts."))


# Exercise 2


@verdict
def check_silenced(run_without):
    """A function `run_without(router, states, expert)`: what the router returns, but with this weight 0."""
    if not callable(run_without):
        raise WrongAnswerError(say("hand over the function itself, without brackets."))
    router = CheckedRouter(12, 8, 3)
    states = random_numbers(20, 12)
    with torch.no_grad():
        router.scores.weight.copy_(random_numbers(8, 12))
        before = RouterParts(*router(states))
        expert = int(before.experts[0, 1])  # the second choice of the first token, another place for others
        after = router_parts(run_without(router, states, expert))
        compare_silenced(before, after, expert)
        if not are_close(router(states)[1], before.weights):
            raise WrongAnswerError(
                say("what you return is right, but the router is still changed afterwards: remove the hook.")
            )
        check_removed_after_an_error(run_without, router, states, expert)
        if not are_close(router(states)[1], before.weights):
            raise WrongAnswerError(
                say(
                    "when the router fails (the check gave it states of a wrong width), your hook stays: put "
                    "handle.remove() where it runs in any case."
                )
            )
    return say(
        "the choice stays, one weight is gone, and nothing is left behind. change_weights does the same."
    )


def check_removed_after_an_error(run_without, router, states, expert: int) -> None:
    """Let the router fail; WrongAnswerError if the learner's function hides that."""
    try:
        run_without(router, states[:, :-1], expert)
    except RuntimeError:
        return
    raise WrongAnswerError(say("when the router fails, your function hides its error: let it pass."))


def compare_silenced(before: RouterParts, after: RouterParts, expert: int) -> None:
    """WrongAnswerError, with the probable reason, if not just the weight of this expert has become 0."""
    if not torch.equal(before.experts, after.experts) or not are_close(before.scores, after.scores):
        raise WrongAnswerError(say("scores and experts are to stay as they are: only weights change."))
    silenced = before.experts == expert
    right = before.weights.masked_fill(silenced, 0)
    if are_close(after.weights, right):
        return
    if are_close(after.weights, before.weights):
        raise WrongAnswerError(
            say(
                "no weight has changed. A hook changes an output by returning another one: does yours return "
                "it?"
            )
        )
    if after.weights.shape != before.weights.shape:
        raise WrongAnswerError(
            say("the weights have another shape now: a silenced expert keeps its place, with 0.")
        )
    if (after.weights == 0).all():
        raise WrongAnswerError(say("all weights are 0: only one expert is to be silent."))
    if are_close(after.weights, before.weights.masked_fill(~silenced, 0)):
        raise WrongAnswerError(say("you silenced all others, and kept the one."))
    if ((after.weights == 0).all(0) & (before.weights != 0).any(0)).any():
        raise WrongAnswerError(
            say(
                "you silenced a place in the list of chosen experts, not an expert: its place is another one "
                "for each token. Compare `experts` with the number."
            )
        )
    if are_close(after.weights, right / right.sum(-1, keepdim=True)):
        raise WrongAnswerError(say("the other weights have changed, too: do not divide by their sum."))
    raise WrongAnswerError(
        say("the weights are wrong: 0 for the one expert, all others as the router gave them.")
    )


# Exercise 3


@verdict
def check_chosen_share(routing, shares):
    """A recording with its scores, and for each layer the mean probability that its chosen experts get."""
    if routing is None or routing is Ellipsis:
        raise WrongAnswerError(say("hand over your recording as well: recorder.routing."))
    if routing.logits is None:
        raise WrongAnswerError(say("your recording has no scores: make it with keep_logits=True."))
    if shares is None or shares is Ellipsis:
        raise WrongAnswerError(say("the recording has its scores. Now compute the share of each layer."))
    shares = np.asarray(shares, dtype=float)
    probabilities = torch.from_numpy(routing.logits).softmax(-1).numpy()  # (tokens, layers, experts)
    chosen = np.take_along_axis(probabilities, routing.experts.astype(int), axis=-1)  # (tokens, layers, k)
    right = chosen.sum(-1).mean(0)  # (layers,)
    if shares.shape != right.shape:
        raise WrongAnswerError(
            say(
                "your answer has the shape {shape}, and one number for each of {layers} layers is asked for: "
                "the sum over the chosen experts, then the mean over the tokens.",
                shape=shares.shape,
                layers=len(right),
            )
        )
    if not np.allclose(shares, right, atol=0.01):
        raise WrongAnswerError(why_share_is_wrong(shares, chosen, right))
    even = chosen.shape[-1] / probabilities.shape[-1]
    return say(
        "a router that cannot decide would give {even:.2f} of the probability to its chosen experts.",
        even=even,
    )


def why_share_is_wrong(shares, chosen, right) -> str:
    """What probably led to these shares; `chosen` are probabilities (tokens, layers, k)."""
    if np.allclose(shares, 1, atol=0.01):
        return say("1 in each layer: did your softmax see all experts, or only the chosen ones?")
    if np.allclose(shares, 1 - right, atol=0.01):
        return say("that is the share of the experts that were not chosen.")
    if np.allclose(shares, 100 * right, atol=1):
        return say("those are percent: a share runs from 0 to 1.")
    if np.allclose(shares, chosen.mean(-1).mean(0), atol=0.01):
        return say("that is the mean of the chosen experts: together they get the sum.")
    if np.allclose(shares, chosen[..., 0].mean(0), atol=0.01):
        return say("that is the first expert alone: all chosen ones count.")
    if np.allclose(shares, right * len(chosen), rtol=0.01):
        return say("that is the sum over the tokens: take the mean.")
    return say(
        "softmax over all experts, the sum of the k largest, then the mean over the tokens gives another one."
    )


# Exercise 4


@verdict
def check_common_load(by_kind, common):
    """Counts (layers, experts) of each kind of text, and what each has in common with English."""
    if common is None or common is Ellipsis:
        raise WrongAnswerError(say("compute what each other kind has in common with English."))
    if not isinstance(common, dict):
        raise WrongAnswerError(
            say("the answer is to be a dictionary, with an entry for each other kind of text.")
        )
    others = [kind for kind in by_kind if kind != "English"]
    missing = [kind for kind in others if kind not in common]
    if missing:
        raise WrongAnswerError(say("there is no entry for {kinds}.", kinds=listed(missing)))
    english = load_shares(by_kind["English"])
    for kind in others:
        load = load_shares(by_kind[kind])
        compare_common(kind, np.asarray(common[kind], dtype=float), english, load)
    return say(
        "each number fits the recording. Which kind comes closest to English, and was that your guess?"
    )


def load_shares(counts) -> np.ndarray:
    """Counts (layers, experts) as shares of the work of a layer."""
    counts = np.asarray(counts)
    return counts / counts.sum(axis=1, keepdims=True)


def compare_common(kind: str, answer: np.ndarray, english: np.ndarray, load: np.ndarray) -> None:
    """WrongAnswerError if `answer` is not what these two loads (layers, experts) have in common."""
    common = np.minimum(english, load)
    if answer.shape == (len(common),):
        raise WrongAnswerError(
            say("for {kind} there is a number for each layer: take their mean.", kind=kind)
        )
    if answer.shape != ():
        raise WrongAnswerError(
            say("for {kind} one number is asked for, not {size}.", kind=kind, size=answer.size)
        )
    if not np.isclose(answer, common.sum(axis=1).mean(), atol=0.005):
        raise WrongAnswerError(why_common_is_wrong(kind, answer, english, load))


def why_common_is_wrong(kind: str, answer: np.ndarray, english: np.ndarray, load: np.ndarray) -> str:
    """What probably led to this number; the loads are shares (layers, experts)."""
    common = np.minimum(english, load)
    reason = to_say(
        "{answer:.2f} for {kind} is wrong: shares of a layer, the smaller of both for each expert, "
        "their sum, and the mean of the layers."
    )
    if np.isclose(answer, np.maximum(english, load).sum(axis=1).mean(), atol=0.005):
        reason = to_say("{answer:.2f} for {kind} takes the larger share: common is the smaller.")
    elif np.isclose(answer, common.sum(), atol=0.005):
        reason = to_say("{answer:.2f} for {kind} is the sum of the layers: take their mean.")
    elif np.isclose(answer, common.mean(), atol=0.0005):
        reason = to_say("{answer:.2f} for {kind} is the mean of the experts: sum them up.")
    elif answer > 1:
        reason = to_say(
            "{answer:.0f} for {kind} is no share: divide the counts of a layer by their sum before you "
            "compare."
        )
    return say(reason, answer=answer, kind=kind)


# Exercise 5

RIGHT_BYTES = LAYERS * CHOSEN * EXPERT_BYTES
#: An answer -> what led to it.
BYTES_MISTAKES = {
    CHOSEN * EXPERT_BYTES: to_say("that is one layer. How many are there?"),
    LAYERS * EXPERT_BYTES: to_say("that is one expert a layer. How many does a token use?"),
    LAYERS * EXPERTS * EXPERT_BYTES: to_say("those are all experts: a token needs only the chosen ones."),
    EXPERT_BYTES: to_say("that is a single expert."),
    RIGHT_BYTES // 2: to_say("those are parameters, or one byte for each: in bf16 each has two."),
    RIGHT_BYTES * 2: (
        to_say(
            "that is twice too much. A number in bf16 has two bytes, and the shared expert, as large as "
            "four routed ones, would stay in memory."
        )
    ),
    RIGHT_BYTES // 3: to_say("that is one matrix of each expert. It has three."),
    RIGHT_BYTES * 2 // 3: to_say("that is two matrices of each expert. It has three."),
}


@verdict
def check_bytes_per_token(number):
    """Bytes of the chosen experts of one token of the real model, in all layers."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise WrongAnswerError(say("a number of bytes is asked for, not {kind}.", kind=type(number).__name__))
    if number == RIGHT_BYTES:
        return say(
            "that is for a token which shares no expert with the one before. How long would a disk take "
            "for it that reads 3 GB in a second?"
        )
    if number in BYTES_MISTAKES:
        raise WrongAnswerError(say(BYTES_MISTAKES[number]))
    if abs(number) < 1_000_000:
        raise WrongAnswerError(
            say("{number} is not in bytes: give all digits, they are checked.", number=number)
        )
    raise WrongAnswerError(
        say(
            "{number:,} is wrong: multiply layers, chosen experts, matrices of an expert, numbers of a "
            "matrix, and the bytes of each.",
            number=number,
        )
    )
