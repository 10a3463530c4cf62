"""Record which experts every token is sent to, while the model runs.

with RoutingRecorder(model) as recorder:
    model.generate(**inputs)
table = recorder.routing.to_frame(tokenizer)
"""

import itertools
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import CourseError


def find_routers(model) -> tuple[dict[int, torch.nn.Module], int]:
    """The router modules by layer, and the place of the logits in their output, as the model names them."""
    spec = (getattr(model, "_can_record_outputs", None) or {}).get("router_logits")
    target = getattr(spec, "target_class", ())
    routers = {_layer(name): module for name, module in model.named_modules() if isinstance(module, target)}
    if not routers:
        raise CourseError(f"{type(model).__name__} has no router; use a mixture-of-experts model.")
    return routers, spec.index


def _layer(module_name: str) -> int:
    return int(re.search(r"\.(\d+)\.", module_name)[1])  # 3 for model.layers.3.mlp.gate


def split_router_output(output, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (tokens, all experts), weights and experts (tokens, k), told apart by their type and shape."""
    parts = output if isinstance(output, tuple) else (output,)
    experts = [p for p in parts if not p.is_floating_point()]
    others = [p for i, p in enumerate(parts) if i != index and p.is_floating_point()]
    if len(experts) != 1 or len(others) != 1 or experts[0].shape != others[0].shape:
        shapes = [tuple(p.shape) for p in parts]
        raise CourseError(
            f"The router returned {shapes}, not logits, weights and experts: use another model."
        )
    return parts[index], others[0], experts[0]


@dataclass
class Routing:
    """What was recorded: N tokens (sorted by sequence and position), L MoE layers, k experts a token."""

    sequence: np.ndarray  # (N,) which sequence of the recording, from 0
    position: np.ndarray  # (N,) place in the sequence, padding not counted
    token_id: np.ndarray  # (N,)
    decode: np.ndarray  # (N,) True: computed alone, on a KV cache; False: in a prefill
    layers: np.ndarray  # (L,) layer numbers
    experts: np.ndarray  # (N, L, k) int16, in the router's order: largest weight first
    weights: np.ndarray  # (N, L, k) float32
    shared_gate: np.ndarray | None = None  # (N, L) 0 to 1: weight of the shared expert, where it has a gate
    logits: np.ndarray | None = None  # (N, L, all experts); their softmax: the router's probabilities

    def to_frame(self, tokenizer) -> pd.DataFrame:
        """One row per token, layer and chosen expert: N * L * k rows."""
        texts = {i: tokenizer.decode([i]) for i in set(self.token_id.tolist())}
        token, layer, rank = np.indices(self.experts.shape).reshape(3, -1)
        frame = pd.DataFrame({"sequence": self.sequence[token], "position": self.position[token]})
        frame["token"] = np.array([texts[i] for i in self.token_id.tolist()], dtype=object)[token]
        frame["phase"] = np.where(self.decode, "decode", "prefill")[token]
        frame["layer"], frame["rank"] = self.layers[layer], rank
        frame["expert"], frame["weight"] = self.experts.ravel(), self.weights.ravel()
        if self.shared_gate is not None:
            frame["shared_gate"] = self.shared_gate[token, layer]
        return frame

    def save(self, path: Path) -> None:
        """Write a compressed .npz file."""
        np.savez_compressed(path, **{k: v for k, v in vars(self).items() if v is not None})

    @classmethod
    def load(cls, path: Path) -> "Routing":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


def token_strip(frame: pd.DataFrame, layer: int, sequence: int = 0) -> list[tuple[str, int]]:
    """(token text, first expert) of every token of one sequence, in order; takes what `to_frame` gives."""
    rows = frame[(frame["layer"] == layer) & (frame["sequence"] == sequence) & (frame["rank"] == 0)]
    return list(zip(rows["token"], rows["expert"].tolist(), strict=True))


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
        self.model, self.keep_logits, self.counts_only = model, keep_logits, counts_only
        self._routers, self._logits_index = find_routers(model)
        gates = {_layer(n): m for n, m in model.named_modules() if n.endswith("shared_expert_gate")}
        self._gates = list(gates.values()) if gates.keys() == self._routers.keys() else []
        config = getattr(model, "generation_config", model.config)
        self._end_tokens = {*np.atleast_1d(config.eos_token_id).tolist(), config.pad_token_id} - {None}

    def __enter__(self) -> "RoutingRecorder":
        self._outputs, self._passes, self._routing, self.counts = {}, [], None, None
        self._sequences, self._next_sequence = weakref.WeakKeyDictionary(), 0  # first sequence of a KV cache
        with ExitStack() as hooks:  # an interrupt in here removes the hooks as well
            for module in [*self._routers.values(), *self._gates]:
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
            kept = {name: torch.cat([p[name] for p in self._passes]).cpu() for name in self._passes[0]}
            kept = {n: (t.float() if t.is_floating_point() else t).numpy() for n, t in kept.items()}
            order = np.lexsort((kept["position"], kept["sequence"]))
            order = order[kept.pop("real")[order]]
            kept = {name: array[order] for name, array in kept.items()}
            self._routing = Routing(layers=np.array([*self._routers]), **kept)
        self._passes = self._outputs = None

    @property
    def routing(self) -> Routing:
        """Everything recorded, once the `with` block has ended (also by an interrupt)."""
        if self._routing is None:
            raise CourseError("No routing is kept: run the model inside the with block, without counts_only.")
        return self._routing

    def _keep_output(self, module, args, output) -> None:
        self._outputs[module] = output

    def _after_pass(self, module, args, kwargs, output) -> None:
        ids, mask, cache = (kwargs.get(name) for name in ("input_ids", "attention_mask", "past_key_values"))
        if ids is None or isinstance(mask, dict) or getattr(mask, "ndim", 2) != 2:
            raise CourseError("Routing needs input_ids=, a mask (batch, tokens) or none, no static cache.")
        batch, length = ids.shape
        cache = getattr(output, "past_key_values", None) if cache is None else cache
        past = 0 if cache is None else cache.get_seq_length() - length
        mask = ids.new_ones(batch, past + length) if mask is None else (mask != 0).int()
        real, position = mask[:, -length:] > 0, mask.cumsum(-1)[:, -length:] - 1
        decode = length == 1 and past > 0
        for token in self._end_tokens if decode and batch > 1 else ():
            real = real & (ids != token)

        outputs = [split_router_output(self._outputs[m], self._logits_index) for m in self._routers.values()]
        logits, weights, experts = zip(*outputs, strict=True)
        experts = _stack(experts)
        if self.counts_only:
            if self.counts is None:
                self.counts = experts.new_zeros(experts.shape[1], logits[0].shape[-1])
            ones = real.reshape(-1, 1, 1).to(experts.device).expand_as(experts).long()
            self.counts.scatter_add_(1, experts.transpose(0, 1).flatten(1), ones.transpose(0, 1).flatten(1))
            return

        owner = self if cache is None else cache
        if past == 0 or owner not in self._sequences:
            self._sequences[owner], self._next_sequence = self._next_sequence, self._next_sequence + batch
        sequence = self._sequences[owner] + torch.arange(batch).repeat_interleave(length)
        kept = {"real": real.flatten(), "position": position.flatten().int(), "token_id": ids.flatten().int()}
        kept |= {"sequence": sequence, "decode": torch.full((batch * length,), decode)}
        kept |= {"experts": experts.to(torch.int16), "weights": _stack(weights)}
        if self._gates:
            kept["shared_gate"] = _stack([self._outputs[m] for m in self._gates]).squeeze(-1).sigmoid()
        if self.keep_logits:
            kept["logits"] = _stack(logits)
        self._passes.append(kept)


def _stack(tensors) -> torch.Tensor:
    """The layers' outputs as one tensor (tokens, layers, ...) on the first layer's device."""
    groups = itertools.groupby(tensors, key=lambda tensor: tensor.device)
    return torch.cat([torch.stack(list(same), 1).to(tensors[0].device) for _, same in groups], 1)


@contextmanager
def change_weights(model, change: Callable[..., torch.Tensor]) -> Iterator[None]:
    """In the block, `change(layer, experts, weights)` gives the routing weights (tokens, k); 0 silences."""
    routers, index = find_routers(model)

    def hook(layer, module, args, output):
        _, weights, experts = split_router_output(output, index)
        return tuple(change(layer, experts, weights) if part is weights else part for part in output)

    with ExitStack() as hooks:
        for layer, router in routers.items():
            hooks.callback(router.register_forward_hook(partial(hook, layer)).remove)
        yield
