"""The checks of notebook 06: right answers, and for each typical mistake the reason that it gets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from answers import assert_right, assert_wrong

from helpers.exercises.routing import (
    BYTES_MISTAKES,
    RIGHT_BYTES,
    CheckedRouter,
    check_bytes_per_token,
    check_chosen_share,
    check_common_load,
    check_router,
    check_silenced,
)

# Exercise 1


def router_that(forward, **linear):
    """A class of routers with a matrix `scores`, and `forward(router, states)`."""

    class AnswerRouter(torch.nn.Module):
        def __init__(self, hidden_size, num_experts, top_k):
            super().__init__()
            self.scores = torch.nn.Linear(hidden_size, num_experts, **({"bias": False} | linear))
            self.num_experts = num_experts
            self.top_k = top_k

        def forward(self, states):
            return forward(self, states)

    return AnswerRouter


def choose(router, states, **changes):
    """What a right router returns, but for `changes`: functions of scores and k, by part."""
    scores = router.scores(states)
    weights, experts = scores.softmax(-1).topk(router.top_k)
    parts = {"scores": scores, "weights": weights, "experts": experts}
    for name, change in changes.items():
        parts[name] = change(scores, router.top_k)
    return tuple(parts.values())


def router_with(**changes):
    """A class of routers that are right but for `changes`, see `choose`."""
    return router_that(lambda router, states: choose(router, states, **changes))


def test_the_right_router(capsys):
    assert check_router(CheckedRouter)
    assert check_router(router_that(choose))
    assert capsys.readouterr().out.count("Right: ") == 2


def test_a_router_may_keep_its_matrix_the_other_way_round():
    class Transposed(torch.nn.Module):
        def __init__(self, hidden_size, num_experts, top_k):
            super().__init__()
            self.matrix = torch.nn.Parameter(torch.zeros(hidden_size, num_experts))
            self.top_k = top_k

        def forward(self, states):
            scores = states @ self.matrix
            return scores, *scores.softmax(-1).topk(self.top_k)

    assert check_router(Transposed)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scores": lambda scores, k: scores.softmax(-1)}, "the first part holds probabilities"),
        ({"scores": lambda scores, k: scores.topk(k).values}, "a score for each expert"),
        ({"scores": lambda scores, k: scores + 1}, "not the states times your matrix"),
        ({"experts": lambda scores, k: scores.topk(1).indices}, "each state gets k of them"),
        ({"experts": lambda scores, k: scores.topk(k + 1).indices}, "each state gets k of them"),
        ({"experts": lambda scores, k: scores.topk(k).indices.sort(-1).values}, "not in order"),
        ({"experts": lambda scores, k: scores.topk(k).indices.flip(-1)}, "not in order"),
        ({"experts": lambda scores, k: scores.topk(k, largest=False).indices}, "with the smallest scores"),
        ({"experts": lambda scores, k: scores.softmax(0).topk(k).indices}, "runs over the tokens"),
        ({"experts": lambda scores, k: torch.zeros(len(scores), k, dtype=int)}, "are not those with"),
        ({"experts": lambda scores, k: scores.topk(k).values}, "has fractions"),
        ({"weights": lambda scores, k: scores.topk(k).values.softmax(-1)}, "your weights sum to 1"),
        ({"weights": lambda scores, k: scores.topk(k).values}, "those are scores"),
        ({"weights": lambda scores, k: scores.topk(k).values.sigmoid()}, "a sigmoid"),
        ({"weights": lambda scores, k: scores.softmax(-1)}, "the weights of all experts"),
        ({"weights": lambda scores, k: scores.softmax(-1).topk(k).values.flip(-1)}, "in another order"),
        (
            {"weights": lambda scores, k: scores.softmax(0).gather(-1, scores.topk(k).indices)},
            "over the tokens, not over the experts",
        ),
        ({"weights": lambda scores, k: torch.ones(len(scores), k)}, "are not the probabilities"),
        ({"weights": lambda scores, k: 3}, "three tensors"),
    ],
)
def test_wrong_routers(changes, reason, capsys):
    assert_wrong(check_router(router_with(**changes)), reason, capsys)


def test_a_fixed_k_is_found(capsys):
    three = router_that(lambda router, states: choose(SimpleNamespace(scores=router.scores, top_k=3), states))
    assert_wrong(check_router(three), "with top_k=2", capsys)


class Empty(torch.nn.Module):
    """The starter cell."""

    def __init__(self, hidden_size, num_experts, top_k):
        super().__init__()

    def forward(self, states): ...


class WithoutMatrix(Empty):
    """A router that learns nothing."""

    def forward(self, states):
        return states, states, states.long()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Empty, "nothing is returned yet"),
        (WithoutMatrix, "no parameters"),
        (router_that(choose, bias=True), "has a bias"),
        (router_that(lambda router, states: router.scores(states)), "three things"),
        (CheckedRouter(12, 8, 3), "the class itself"),
        (SimpleNamespace, "a torch.nn.Module"),
        (None, "put your answer into this cell"),
    ],
)
def test_no_routers(answer, reason, capsys):
    assert_wrong(check_router(answer), reason, capsys)


def test_a_router_of_the_wrong_width(capsys):
    class Square(WithoutMatrix):
        def __init__(self, hidden_size, num_experts, top_k):
            super().__init__(hidden_size, num_experts, top_k)
            self.matrix = torch.nn.Linear(hidden_size, hidden_size, bias=False)

    assert_wrong(check_router(Square), "one matrix is enough", capsys)


# Exercise 2


def run_with_hook(router, states, hook):
    """What the router returns with this hook, which is removed in any case."""
    handle = router.register_forward_hook(hook)
    try:
        return router(states)
    finally:
        handle.remove()


def silencing(change):
    """An answer whose hook gives `change(weights, experts, expert)` as weights."""

    def run_without(router, states, expert):
        def hook(module, args, output):
            scores, weights, experts = output
            return scores, change(weights, experts, expert), experts

        return run_with_hook(router, states, hook)

    return run_without


def mask(weights, experts, expert):
    """The right weights."""
    return weights.masked_fill(experts == expert, 0)


def renormalised(weights, experts, expert):
    """What is left is divided by its sum."""
    left = mask(weights, experts, expert)
    return left / left.sum(-1, keepdim=True)


def zero_in_column(weights, experts, expert):
    """Silences a place, not an expert."""
    weights = weights.clone()
    weights[:, expert % weights.shape[1]] = 0
    return weights


def right_but_left(router, states, expert):
    """Forgets to remove its hook."""
    router.register_forward_hook(
        lambda module, args, output: (output[0], mask(output[1], output[2], expert), output[2])
    )
    return router(states)


def without_finally(router, states, expert):
    """Removes its hook only if nothing goes wrong."""
    handle = router.register_forward_hook(
        lambda module, args, output: (output[0], mask(output[1], output[2], expert), output[2])
    )
    output = router(states)
    handle.remove()
    return output


def hides_errors(router, states, expert):
    """Returns nothing when the router fails."""
    try:
        return silencing(mask)(router, states, expert)
    except RuntimeError:
        return None


def in_place(router, states, expert):
    """Right as well: the hook changes the weights where they are, and returns nothing."""

    def hook(module, args, output):
        output[1][output[2] == expert] = 0

    return run_with_hook(router, states, hook)


def returns_nothing_from_hook(router, states, expert):
    """Computes new weights and forgets to return them."""
    return run_with_hook(router, states, lambda module, args, output: None)


def changes_experts(router, states, expert):
    """Sends the tokens to another expert."""
    return run_with_hook(
        router, states, lambda module, args, output: (output[0], output[1], (output[2] + 1) % 8)
    )


def changes_scores(router, states, expert):
    """Changes what nobody reads any more."""
    return run_with_hook(router, states, lambda module, args, output: (output[0] * 0, *output[1:]))


def test_the_right_hooks(capsys):
    assert check_silenced(silencing(mask))
    assert check_silenced(in_place)
    assert capsys.readouterr().out.count("Right: ") == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (returns_nothing_from_hook, "no weight has changed"),
        (silencing(lambda weights, experts, expert: weights * 0), "all weights are 0"),
        (silencing(lambda weights, experts, expert: weights * (experts == expert)), "silenced all others"),
        (silencing(zero_in_column), "a place in the list"),
        (silencing(renormalised), "do not divide by their sum"),
        (silencing(lambda weights, experts, expert: weights[:, 1:]), "another shape"),
        (silencing(lambda weights, experts, expert: weights + 1), "the weights are wrong"),
        (changes_experts, "only weights change"),
        (changes_scores, "only weights change"),
        (right_but_left, "remove the hook"),
        (without_finally, "runs in any case"),
        (hides_errors, "hides its error"),
        (lambda router, states, expert: None, "nothing is returned yet"),
        (lambda router, states, expert: router(states)[1], "three things"),
        (CheckedRouter(12, 8, 3)(torch.zeros(1, 12)), "the function itself"),
        (None, "put your answer into this cell"),
    ],
)
def test_wrong_hooks(answer, reason, capsys):
    assert_wrong(check_silenced(answer), reason, capsys)


# Exercise 3


@pytest.fixture
def recording():
    """A recording of 10 tokens, 2 layers, 6 experts, of which a token uses 3."""
    logits = np.random.default_rng(0).normal(size=(10, 2, 6)).astype(np.float32)
    experts = np.argsort(-logits, axis=-1)[..., :3].astype(np.int16)
    return SimpleNamespace(logits=logits, experts=experts)


def chosen_probabilities(recording):
    """(tokens, layers, k)"""
    probabilities = torch.from_numpy(recording.logits).softmax(-1)
    return probabilities.topk(recording.experts.shape[-1]).values


def test_the_right_shares(recording, capsys):
    shares = chosen_probabilities(recording).sum(-1).mean(0)
    assert check_chosen_share(recording, shares)
    assert check_chosen_share(recording, shares.tolist())
    assert "would give 0.50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda chosen: chosen.sum(-1).mean(), "one number for each of 2 layers"),
        (lambda chosen: chosen.sum(-1), "one number for each of 2 layers"),
        (lambda chosen: chosen.mean(0), "one number for each of 2 layers"),
        (lambda chosen: torch.ones(2), "only the chosen ones"),
        (lambda chosen: 1 - chosen.sum(-1).mean(0), "were not chosen"),
        (lambda chosen: 100 * chosen.sum(-1).mean(0), "percent"),
        (lambda chosen: chosen.mean(-1).mean(0), "the mean of the chosen experts"),
        (lambda chosen: chosen[..., 0].mean(0), "the first expert alone"),
        (lambda chosen: chosen.sum(-1).sum(0), "the sum over the tokens"),
        (lambda chosen: torch.full((2,), 0.05), "gives another one"),
        (lambda chosen: "half", "cannot be checked"),
        (lambda chosen: ..., "Now compute the share"),
    ],
)
def test_wrong_shares(compute, reason, recording, capsys):
    assert_wrong(check_chosen_share(recording, compute(chosen_probabilities(recording))), reason, capsys)


def test_recordings_that_cannot_be_used(recording, capsys):
    assert_wrong(check_chosen_share(..., [0.5, 0.5]), "your recording as well", capsys)
    assert_wrong(check_chosen_share(..., ...), "put your answer into this cell", capsys)
    recording.logits = None
    assert_wrong(check_chosen_share(recording, [0.5, 0.5]), "keep_logits=True", capsys)


# Exercise 4

BY_KIND = {
    "English": np.array([[10, 20, 30, 40], [25, 25, 25, 25]]),
    "Chinese": np.array([[30, 10, 5, 5], [5, 5, 20, 20]]),
    "code": np.array([[20, 40, 60, 80], [50, 50, 60, 40]]),
}
SHARES = {kind: counts / counts.sum(axis=1, keepdims=True) for kind, counts in BY_KIND.items()}


def common_with_english(combine):
    """For each other kind `combine` of the smaller shares (layers, experts)."""
    return {kind: combine(np.minimum(SHARES["English"], SHARES[kind])) for kind in ("Chinese", "code")}


def test_the_right_common_loads(capsys):
    common = common_with_english(lambda smaller: smaller.sum(axis=1).mean())
    assert_right(check_common_load(BY_KIND, common), "comes closest to English", capsys, ["code", "Chinese"])


LARGER = {kind: np.maximum(SHARES["English"], SHARES[kind]).sum(1).mean() for kind in ("Chinese", "code")}
COUNTS = {kind: np.minimum(BY_KIND["English"], BY_KIND[kind]).sum(1).mean() for kind in ("Chinese", "code")}


@pytest.mark.parametrize(
    ("common", "reason"),
    [
        (LARGER, "takes the larger share"),
        (COUNTS, "is no share"),
        (common_with_english(np.sum), "the sum of the layers"),
        (common_with_english(np.mean), "the mean of the experts"),
        (common_with_english(lambda smaller: smaller.sum(axis=1)), "a number for each layer"),
        (common_with_english(lambda smaller: smaller), "one number is asked for"),
        ({"Chinese": 0.99, "code": 0.99}, "0.99 for Chinese is wrong"),
        ({"Chinese": 0.5}, "no entry for code"),
        ("code", "a dictionary"),
        (..., "compute what each other kind"),
    ],
)
def test_wrong_common_loads(common, reason, capsys):
    assert_wrong(check_common_load(BY_KIND, common), reason, capsys)


# Exercise 5


def test_the_right_bytes(capsys):
    for number in (1_660_944_384, float(RIGHT_BYTES)):
        assert_right(check_bytes_per_token(number), "reads 3 GB in a second", capsys, ["1.66", "0.55"])


@pytest.mark.parametrize("answer", BYTES_MISTAKES)
def test_each_mistake_has_its_reason(answer, capsys):
    assert_wrong(check_bytes_per_token(answer), BYTES_MISTAKES[answer], capsys, [f"{RIGHT_BYTES:,}"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (1.66, "not in bytes"),
        (RIGHT_BYTES + 2, "is wrong: multiply"),
        ("1.66 GB", "a number of bytes is asked for, not str"),
        (True, "not bool"),
        (None, "put your answer into this cell"),
    ],
)
def test_other_wrong_bytes(answer, reason, capsys):
    assert_wrong(check_bytes_per_token(answer), reason, capsys, [f"{RIGHT_BYTES:,}"])
