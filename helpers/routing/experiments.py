"""Experiments that run a model again and again with changed weights, sized for the model at hand.

The toy does hundreds of passes in a second or two. On a cut of the real model to two layers the same cell,
240 passes, took 400 seconds on a processor. So a cell asks first how many passes are reasonable. The answer
depends on the model and on where it lies, never on a clock: a notebook must give the same result on every
run.
"""

from collections.abc import Callable, Mapping

import numpy as np
from tqdm.auto import tqdm

from helpers.language import say
from helpers.routing.routers import change_weights

# Parameters that a pass over a few short texts goes through in a second. On a processor: 240 passes of
# 1.76 billion took 400 s on 2 cores. On GPUs: estimated from their memory, 30 times as fast; not measured.
PARAMETERS_A_SECOND_ON_CPU = 1e9
PARAMETERS_A_SECOND_ON_GPU = 30e9
SECONDS_WITHOUT_A_BAR = 2


def seconds_for_a_pass(model) -> float:
    """About how long a pass over a few short texts takes, by the number of parameters and where they lie."""
    parameters = list(model.parameters())
    on_gpus = all(parameter.device.type == "cuda" for parameter in parameters)
    speed = PARAMETERS_A_SECOND_ON_CPU
    if on_gpus:
        speed = PARAMETERS_A_SECOND_ON_GPU
    return sum(parameter.numel() for parameter in parameters) / speed


def passes_for(model, minutes: float = 2) -> int:
    """How many passes over a few short texts this model does in about so many minutes, at least 1."""
    return max(1, int(60 * minutes / seconds_for_a_pass(model)))


def busiest_experts(counts, limit: int) -> list[int]:
    """The experts with most tokens in `counts` (experts,), at most `limit` of them, in the order of numbers.

    To silence an expert without work changes nothing: where time is short, these are the ones to try.
    """
    counts = np.asarray(counts)
    most_first = np.argsort(-counts, kind="stable")
    limit = max(1, limit)
    return sorted(most_first[:limit].tolist())


def measure_changes(model, changes: Mapping, measure: Callable, passes: int = 1) -> dict:
    """`measure()` once for each entry of `changes` (name -> function for `change_weights`), by name.

    `passes`: how many passes a measurement has; where the whole is expected to take over two seconds, a bar
    shows how far it is. Ctrl-C ends it, and the weights are as before.
    """
    expected = len(changes) * passes * seconds_for_a_pass(model)
    quick = expected < SECONDS_WITHOUT_A_BAR
    results = {}
    for name, change in tqdm(changes.items(), desc=say("changed models"), leave=False, disable=quick):
        with change_weights(model, change):
            results[name] = measure()
    return results
