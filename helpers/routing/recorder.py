"""Record which experts every token is sent to, while the model runs.

with RoutingRecorder(model) as recorder:
    model.generate(**inputs)
table = recorder.routing.to_frame(tokenizer)
"""

import itertools
from collections.abc import Iterable
from contextlib import ExitStack

import numpy as np
import torch

from helpers import CourseError
from helpers.routing.passes import Pass, SequenceNumbers, read_pass
from helpers.routing.routers import RouterOutput, find_routers, find_shared_gates
from helpers.routing.table import Routing


class RoutingRecorder:
    """Context manager that keeps what a model's routers return in every forward pass, also in `generate()`.

    Padding is left out. Passes with one KV cache belong to the same sequences; an empty one starts new ones.
    In a batch, `generate()` feeds end and padding tokens to finished sequences: single-token passes of a
    batch leave those out. Not for beam search, `use_cache=False`, static caches, compiled models, threads.

    Memory until the block ends, on the first router's device: k * (2 + bytes of a weight) per token and layer
    (16 bytes in bf16 with k = 4; a shared gate adds 2) and 18 bytes a token. `counts_only` gives no `routing`
    but `counts`, tokens per expert (L, all experts): 8 bytes each for any text. No GPU is waited for before.
    """

    def __init__(self, model, *, keep_logits: bool = False, counts_only: bool = False):
        self.model = model
        self.keep_logits = keep_logits
        self.counts_only = counts_only
        self.counts = None
        self._routers = find_routers(model)
        self._layers = [router.layer for router in self._routers]
        self._gates = find_shared_gates(model, self._layers)
        self._end_tokens = end_tokens(model)
        self._routing = None

    def __enter__(self) -> "RoutingRecorder":
        self.counts = None
        self._routing = None
        self._outputs = {}  # what each router and gate returned in the pass that runs now
        self._passes = []
        self._numbers = SequenceNumbers()
        with ExitStack() as hooks:  # an interrupt in here removes the hooks as well
            routers = [router.module for router in self._routers]
            for module in routers + self._gates:
                hooks.callback(module.register_forward_hook(self._keep_output).remove)
            hook = self.model.base_model.register_forward_hook(self._after_pass, with_kwargs=True)
            hooks.callback(hook.remove)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()
        if self.counts is not None:
            self.counts = self.counts.cpu().numpy()
        if self._passes:
            self._routing = join_passes(self._passes, self._layers)
        self._passes = []
        self._outputs = {}

    @property
    def routing(self) -> Routing:
        """Everything recorded, once the `with` block has ended (also by an interrupt).

        CourseError if there is nothing: no pass was run, or only counts were kept.
        """
        if self._routing is None:
            raise CourseError("No routing is kept: run the model inside the with block, without counts_only.")
        return self._routing

    def _keep_output(self, module, args, output) -> None:
        self._outputs[module] = output

    def _after_pass(self, module, args, kwargs, output) -> None:
        read = read_pass(kwargs, output, self._end_tokens)
        routers = [router.read(self._outputs[router.module]) for router in self._routers]
        if self.counts_only:
            self._count(read, routers)
        else:
            self._passes.append(self._pass_to_keep(read, routers))

    def _count(self, read: Pass, routers: list[RouterOutput]) -> None:
        """Add the experts of the pass to the counts: one for each real token, layer and chosen expert."""
        experts = stack_layers(router.experts for router in routers)  # (tokens, layers, k)
        if self.counts is None:
            all_experts = routers[0].logits.shape[-1]
            self.counts = experts.new_zeros(len(routers), all_experts)
        real = read.real.to(experts.device).long().reshape(-1, 1, 1)  # 1 or 0 for each token
        ones = real.expand_as(experts)
        by_layer = experts.transpose(0, 1)  # (layers, tokens, k)
        self.counts.scatter_add_(1, by_layer.flatten(1), ones.transpose(0, 1).flatten(1))

    def _pass_to_keep(self, read: Pass, routers: list[RouterOutput]) -> dict[str, torch.Tensor]:
        """What is kept of a pass, one row a token, in the names of `Routing` and `real`."""
        batch, length = read.token_id.shape
        kept = {
            "real": read.real.flatten(),
            "position": read.position.flatten().int(),
            "token_id": read.token_id.flatten().int(),
            "sequence": self._numbers.of(read).repeat_interleave(length),
            "decode": torch.full((batch * length,), read.decode),
            "experts": stack_layers(router.experts for router in routers).to(torch.int16),
            "weights": stack_layers(router.weights for router in routers),
        }
        if self._gates:
            gates = stack_layers(self._outputs[gate] for gate in self._gates)  # (tokens, layers, 1)
            kept["shared_gate"] = gates.squeeze(-1).sigmoid()
        if self.keep_logits:
            kept["logits"] = stack_layers(router.logits for router in routers)
        return kept


def end_tokens(model) -> set[int]:
    """The tokens that `generate()` feeds to finished sequences: its end tokens and padding."""
    config = getattr(model, "generation_config", model.config)
    tokens = set(np.atleast_1d(config.eos_token_id).tolist())
    tokens.add(config.pad_token_id)
    tokens.discard(None)
    return tokens


def stack_layers(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """The layers' outputs as one tensor (tokens, layers, ...) on the first layer's device.

    One copy for each run of layers on one device, not one for each layer.
    """
    tensors = list(tensors)
    first = tensors[0].device
    pieces = []
    for _, same_device in itertools.groupby(tensors, key=lambda tensor: tensor.device):
        together = torch.stack(list(same_device), 1)
        pieces.append(together.to(first))
    return torch.cat(pieces, 1)


def join_passes(passes: list[dict[str, torch.Tensor]], layers: list[int]) -> Routing:
    """All passes as one recording on the CPU: padding left out, sorted by sequence and position."""
    kept = {}
    for name in passes[0]:
        column = torch.cat([one[name] for one in passes]).cpu()
        if column.is_floating_point():
            column = column.float()  # NumPy has no bfloat16
        kept[name] = column.numpy()
    order = np.lexsort((kept["position"], kept["sequence"]))
    order = order[kept.pop("real")[order]]
    kept = {name: column[order] for name, column in kept.items()}
    return Routing(layers=np.array(layers), **kept)
