"""The columns of a recording: one row a token, first for each pass, then joined for all of them."""

import itertools
from collections.abc import Iterable

import numpy as np
import torch

from helpers.routing.caches import KeptPass
from helpers.routing.passes import Pass
from helpers.routing.routers import RouterOutput
from helpers.routing.table import Routing


def columns_of_pass(
    read: Pass, routers: list[RouterOutput], gates: list[torch.Tensor], *, keep_logits: bool
) -> dict[str, torch.Tensor]:
    """What is kept of a pass, one row a token, in the names of `Routing`; "real": whether it is text."""
    columns = {
        "real": read.real.flatten(),
        "position": read.position.flatten().int(),
        "token_id": read.token_id.flatten().int(),
        "decode": torch.full((read.batch * read.length,), read.decode),
        "experts": stack_layers(router.experts for router in routers).to(torch.int16),
        "weights": stack_layers(router.weights for router in routers),
    }
    if gates:
        columns["shared_gate"] = stack_layers(gates).squeeze(-1).sigmoid()
    if keep_logits:
        columns["logits"] = stack_layers(router.logits for router in routers)
    return columns


def columns_for_counting(read: Pass, routers: list[RouterOutput]) -> dict[str, torch.Tensor]:
    """What is kept of a pass until it is counted."""
    chosen = stack_layers(router.experts for router in routers)  # (tokens, layers, k)
    all_experts = routers[0].logits.shape[-1]
    counts = chosen.new_zeros(chosen.shape[1], all_experts)
    return {"real": read.real.flatten(), "experts": chosen, "no_counts": counts}


def add_to_counts(counts: torch.Tensor | None, passes: list[KeptPass]) -> torch.Tensor | None:
    """Counts (layers, all experts) and these passes: one for each real token, layer and chosen expert."""
    for kept in passes:
        if counts is None:
            counts = kept.columns["no_counts"]
        experts = kept.columns["experts"].transpose(0, 1)  # (layers, tokens, k)
        real = kept.columns["real"].long().to(experts.device)  # 1 or 0 for each token
        ones = real.reshape(1, -1, 1).expand_as(experts)
        counts = counts.scatter_add(1, experts.flatten(1), ones.flatten(1))
    return counts


def stack_layers(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """The layers' outputs as one tensor (tokens, layers, ...) on the first layer's device, without gradients.

    Each may be (tokens, ...) or (batch, tokens, ...). One copy for each run of layers on one device, not one
    for each layer.
    """
    tensors = [tensor.detach().flatten(0, -2) for tensor in tensors]
    first = tensors[0].device
    pieces = []
    for _, same_device in itertools.groupby(tensors, key=lambda tensor: tensor.device):
        together = torch.stack(list(same_device), 1)
        pieces.append(together.to(first))
    return torch.cat(pieces, 1)


def join_passes(passes: list[dict[str, torch.Tensor]], layers: list[int]) -> Routing:
    """All passes as one recording on the CPU: what is no text left out, sorted by sequence and position."""
    kept = {}
    for name in passes[0]:
        column = torch.cat([one[name] for one in passes]).cpu()
        if column.is_floating_point():
            column = column.float()  # NumPy has no bfloat16
        kept[name] = column.numpy()
    order = np.lexsort((kept["position"], kept["sequence"]))
    order = order[kept.pop("real")[order]]
    kept = {name: column[order] for name, column in kept.items()}
    return largest_weight_first(Routing(layers=np.array(layers), **kept))


def largest_weight_first(routing: Routing) -> Routing:
    """Sort the chosen experts by weight, and keep the router's own order apart where it is another one.

    Routers with a bias choose by score plus bias, and some return their choice in no order at all.
    """
    order = np.argsort(-routing.weights, axis=-1, kind="stable")  # (N, L, k)
    in_order = np.arange(order.shape[-1])
    if (order == in_order).all():
        return routing
    routing.experts = np.take_along_axis(routing.experts, order, axis=-1)
    routing.weights = np.take_along_axis(routing.weights, order, axis=-1)
    routing.router_rank = order.astype(np.int8)
    return routing
