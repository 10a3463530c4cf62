"""The routers of a model: where they are, what they return, and how to change the weights they give.

Checked with every mixture of experts that transformers 5.23 has for text; `tests/routing/architectures.py` is
the list, with the reason where a model is refused.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from transformers.utils.output_capturing import OutputRecorder

from helpers import CourseError
from helpers.language import listed, say, to_say


class RouterOutput(NamedTuple):
    """What one router says about the tokens of one pass."""

    logits: torch.Tensor
    """(tokens, all experts): the scores, as the model calls its logits."""
    weights: torch.Tensor
    """(tokens, k): how much each chosen expert counts."""
    experts: torch.Tensor
    """(tokens, k): the chosen experts, whole numbers from 0, in the router's own order."""


@dataclass(frozen=True)
class Router:
    """One router module of a model, which returns a tuple of logits, weights, experts and perhaps more."""

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
        parts = as_tuple(output)
        experts = [place for place, part in enumerate(parts) if not part.is_floating_point()]
        weights = self._weight_places(parts)
        if len(experts) != 1 or len(weights) != 1:
            shapes = [tuple(part.shape) for part in parts]
            raise CourseError(
                say(
                    "The router {router} returned {shapes}, not logits, weights and experts, so what it "
                    "chose cannot be read: use another model.",
                    router=type(self.module).__name__,
                    shapes=shapes,
                )
            )
        wanted = (self.logits_index, weights[0], experts[0])
        return RouterOutput(*[parts[place].flatten(0, -2) for place in wanted])

    def with_weights(self, output, weights: torch.Tensor):
        """What the module returned, with these weights (tokens, k) in the place of its own."""
        parts = list(as_tuple(output))
        for place in self._weight_places(parts):
            parts[place] = weights.reshape(parts[place].shape)
        return tuple(parts)

    def _weight_places(self, parts) -> list[int]:
        """Places of what may be the weights: fractions in the shape of the experts, but not the logits."""
        expert_shapes = [part.shape for part in parts if not part.is_floating_point()]
        places = []
        for place, part in enumerate(parts):
            is_fraction = part.is_floating_point() and part.shape in expert_shapes
            if is_fraction and place != self.logits_index:
                places.append(place)
        return places


class SortedRouter(Router):
    """JetMoE's router, which returns the choices of all tokens in one list, sorted by expert."""

    def read(self, output) -> RouterOutput:
        """As `Router.read`: each choice goes back to its token."""
        place, _, weights, tokens_per_expert, logits = output  # place and weights: (tokens * k,)
        all_experts = torch.arange(len(tokens_per_expert), device=place.device)
        sorted_experts = all_experts.repeat_interleave(torch.tensor(tokens_per_expert, device=place.device))
        experts = torch.empty_like(place).scatter_(0, place, sorted_experts)
        weights = torch.empty_like(weights).scatter_(0, place, weights)
        shape = (len(logits), -1)  # (tokens, k)
        return RouterOutput(logits, weights.reshape(shape), experts.reshape(shape))

    def with_weights(self, output, weights: torch.Tensor):
        """As `Router.with_weights`."""
        place, token, _, tokens_per_expert, logits = output
        return (place, token, weights.flatten()[place], tokens_per_expert, logits)


class DenseRouter(Router):
    """Llama 4's router, which returns the weights of all experts, 0 for those that were not chosen."""

    def read(self, output) -> RouterOutput:
        """As `Router.read`: its choice is the k largest logits."""
        weights, logits = output  # both (tokens, all experts)
        experts = logits.topk(self.module.top_k, dim=-1).indices
        return RouterOutput(logits, weights.gather(-1, experts), experts)

    def with_weights(self, output, weights: torch.Tensor):
        """As `Router.with_weights`."""
        old, logits = output
        experts = self.read(output).experts
        return (torch.zeros_like(old).scatter_(-1, experts, weights.to(old.dtype)), logits)


#: Routers that do not return logits, weights and experts, by the name of their class.
OTHER_ROUTERS = {"JetMoeTopKGating": SortedRouter, "Llama4Router": DenseRouter}

#: Routers that cannot be recorded, by the name of their class: the refusal, which says why.
REFUSED_ROUTERS = {
    "DbrxRouter": to_say(
        "The routing of {model} cannot be recorded: its router returns only scores; the choice is made "
        "outside of it, unseen by hooks; use another mixture-of-experts model."
    ),
    "DogeCDMoE": to_say(
        "The routing of {model} cannot be recorded: it chooses single neurons by two keys each; there is no "
        "list of experts with weights; use another mixture-of-experts model."
    ),
    "Ernie4_5_VLMoeMoeBlock": to_say(
        "The routing of {model} cannot be recorded: its layers return only scores, for experts of text and "
        "of pictures together; use another mixture-of-experts model."
    ),
    "ZayaRouter": to_say(
        "The routing of {model} cannot be recorded: a token can skip the experts, and its router then names "
        "expert 0 with weight 0; use another mixture-of-experts model."
    ),
}


def as_tuple(output) -> tuple[torch.Tensor, ...]:
    """What a module returned as a tuple, also if it is a single tensor."""
    if isinstance(output, tuple):
        return output
    return (output,)


def find_routers(model) -> list[Router]:
    """The routers of a model in the order of its layers, as the model's classes name them.

    Routers of attention are left out (JetMoE has experts for attention, too). CourseError if there is none,
    or if what they choose cannot be recorded.
    """
    name_of_model = type(model).__name__
    if model.config.is_encoder_decoder:
        raise CourseError(
            say(
                "The routing of {model} cannot be recorded: it is an encoder and a decoder, which read two "
                "texts; use a model that only decodes.",
                model=name_of_model,
            )
        )
    declared = router_classes(model)
    routers = []
    for name, module in model.named_modules():
        spec = next((spec for spec in declared if isinstance(module, spec.target_class)), None)
        if spec is None or "attention" in name or name.endswith("self_attn"):
            continue
        class_name = type(module).__name__
        if class_name in REFUSED_ROUTERS:
            raise CourseError(say(REFUSED_ROUTERS[class_name], model=name_of_model))
        router_class = OTHER_ROUTERS.get(class_name, Router)
        routers.append(router_class(layer_number(name), module, spec.index))
    if not routers:
        raise CourseError(why_no_router(model, declared))
    check_one_for_each_layer(name_of_model, routers)
    return routers


def router_classes(model) -> list[OutputRecorder]:
    """What the classes of a model and of its parts say of routers: the class, and the place of its logits."""
    found = []
    for part in model.modules():
        named = getattr(part, "can_record_outputs", {}).get("router_logits", [])
        if not isinstance(named, list):
            named = [named]
        found += [spec for spec in named if spec not in found]
    return found


def why_no_router(model, declared: list[OutputRecorder]) -> str:
    """One sentence for a model in which no router was found."""
    name = type(model).__name__
    wanted = [spec.target_class.__name__ for spec in declared]
    if len(wanted) == 1:
        return say(
            "The routing cannot be recorded: as configured, no layer of this {model} has a {router}; use a "
            "configuration whose layers have experts that a router chooses.",
            model=name,
            router=wanted[0],
        )
    if wanted:
        return say(
            "The routing cannot be recorded: as configured, no layer of this {model} has one of {routers}; "
            "use a configuration whose layers have experts that a router chooses.",
            model=name,
            routers=listed(wanted),
        )
    return say(
        "{model} has no router: its class names no router_logits among the outputs that can be recorded. Use "
        "a mixture-of-experts model.",
        model=name,
    )


def check_one_for_each_layer(name_of_model: str, routers: list[Router]) -> None:
    """CourseError if a layer has two routers: one table could not tell them apart."""
    layers = [router.layer for router in routers]
    for layer in layers:
        if layers.count(layer) > 1:
            raise CourseError(
                say(
                    "The routing of {model} cannot be recorded: {routers} of its routers are in a layer "
                    "{layer}; take the part of the model that writes, with one router in each.",
                    model=name_of_model,
                    routers=layers.count(layer),
                    layer=layer,
                )
            )


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
