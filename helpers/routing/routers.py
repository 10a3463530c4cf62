"""The routers of a model: where they are, what they return, and how to change the weights they give."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from helpers import CourseError


class RouterOutput(NamedTuple):
    """What one router says about the tokens of one pass."""

    logits: torch.Tensor
    """(tokens, all experts): the scores."""
    weights: torch.Tensor
    """(tokens, k): how much each chosen expert counts."""
    experts: torch.Tensor
    """(tokens, k): the chosen experts, whole numbers from 0."""


@dataclass(frozen=True)
class Router:
    """One router module of a model."""

    layer: int
    """Number of its layer, from 0."""
    module: torch.nn.Module
    """Its forward hooks see what it returns."""
    logits_index: int
    """Place of the logits in the tuple that it returns."""

    def read(self, output) -> RouterOutput:
        """Logits, weights and experts in what the module returned, told apart by their type and shape.

        CourseError if it returned something else.
        """
        parts = _parts(output)
        experts = [part for part in parts if not part.is_floating_point()]
        weights = [parts[place] for place in self._weight_places(parts)]
        found_both = len(experts) == 1 and len(weights) == 1
        if not found_both or experts[0].shape != weights[0].shape:
            shapes = [tuple(part.shape) for part in parts]
            raise CourseError(
                f"The router returned {shapes}, not logits, weights and experts: use another model."
            )
        return RouterOutput(parts[self.logits_index], weights[0], experts[0])

    def with_weights(self, output, weights: torch.Tensor):
        """What the module returned, with these weights (tokens, k) in the place of its own."""
        parts = list(_parts(output))
        for place in self._weight_places(parts):
            parts[place] = weights
        return tuple(parts)

    def _weight_places(self, parts) -> list[int]:
        """Places of everything that may be the weights: fractions that are not the logits."""
        return [
            place
            for place, part in enumerate(parts)
            if place != self.logits_index and part.is_floating_point()
        ]


def _parts(output) -> tuple[torch.Tensor, ...]:
    if isinstance(output, tuple):
        return output
    return (output,)


def find_routers(model) -> list[Router]:
    """The routers of a model in the order of its layers, as the model's class names them.

    CourseError if it has none.
    """
    declared = model.can_record_outputs.get("router_logits")
    routers = []
    if declared is not None:
        for name, module in model.named_modules():
            if isinstance(module, declared.target_class):
                routers.append(Router(layer_number(name), module, declared.index))
    if not routers:
        raise CourseError(f"{type(model).__name__} has no router; use a mixture-of-experts model.")
    return routers


def find_shared_gates(model, layers: list[int]) -> list[torch.nn.Module]:
    """The gates of the shared experts, one for each of the `layers`; none unless all of these have one."""
    gates = {}
    for name, module in model.named_modules():
        if name.endswith("shared_expert_gate"):
            gates[layer_number(name)] = module
    if list(gates) != layers:
        return []
    return list(gates.values())


def layer_number(module_name: str) -> int:
    """3 for `model.layers.3.mlp.gate`."""
    return int(re.search(r"\.(\d+)\.", module_name)[1])


@contextmanager
def change_weights(model, change: Callable[..., torch.Tensor]) -> Iterator[None]:
    """In the block, `change(layer, experts, weights)` decides how much the chosen experts count.

    It gets the layer's number and what the router chose, both (tokens, k), and returns weights of the same
    shape; an expert with weight 0 has no effect. CourseError if the model has no routers.
    """

    def hook(router, module, args, output):
        seen = router.read(output)
        weights = change(router.layer, seen.experts, seen.weights)
        return router.with_weights(output, weights)

    with ExitStack() as hooks:
        for router in find_routers(model):
            handle = router.module.register_forward_hook(partial(hook, router))
            hooks.callback(handle.remove)
        yield
