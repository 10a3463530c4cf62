"""One forward pass of a model: which tokens it read, and where they stand in their sequences."""

import weakref
from collections.abc import Collection
from dataclasses import dataclass

import torch

from helpers import CourseError


@dataclass
class Pass:
    """The tokens that one pass read: `batch` sequences, `length` tokens of each."""

    token_id: torch.Tensor
    """(batch, length)."""
    position: torch.Tensor
    """(batch, length): place in the sequence, from 0, padding not counted."""
    real: torch.Tensor
    """(batch, length): False for padding, and for what `generate` feeds to finished sequences."""
    past: int
    """How many places of the KV cache were filled before this pass."""
    cache: object | None
    """The KV cache that the pass used or made, if any."""

    @property
    def decode(self) -> bool:
        """Whether each token was computed alone, on a KV cache."""
        return self.token_id.shape[1] == 1 and self.past > 0


def read_pass(inputs: dict, output, end_tokens: Collection[int]) -> Pass:
    """What a model's own arguments and output say of a pass.

    `end_tokens` are the tokens that `generate` feeds to the finished sequences of a batch. CourseError where
    the tokens or the padding cannot be known: embeddings instead of tokens, a mask of another shape, a static
    cache.
    """
    ids = inputs.get("input_ids")
    mask = inputs.get("attention_mask")
    if ids is None or not (mask is None or is_plain_mask(mask)):
        raise CourseError("Routing needs input_ids=, a mask (batch, tokens) or none, no static cache.")
    batch, length = ids.shape
    cache = inputs.get("past_key_values")
    if cache is None:
        cache = getattr(output, "past_key_values", None)
    past = 0
    if cache is not None:
        past = cache.get_seq_length() - length
    if mask is None:
        mask = ids.new_ones(batch, past + length)
    mask = (mask != 0).int()
    read = Pass(
        token_id=ids,
        position=mask.cumsum(-1)[:, -length:] - 1,
        real=mask[:, -length:] > 0,
        past=past,
        cache=cache,
    )
    if read.decode and batch > 1:
        for token in end_tokens:
            read.real = read.real & (ids != token)
    return read


def is_plain_mask(mask) -> bool:
    """Whether this is a tensor (batch, tokens); a static cache has one for each kind of layer."""
    return isinstance(mask, torch.Tensor) and mask.ndim == 2


class SequenceNumbers:
    """Numbers the sequences of a recording, from 0: passes with one KV cache belong to the same ones."""

    def __init__(self):
        self._first = weakref.WeakKeyDictionary()  # a finished cache is not kept alive
        self._next = 0

    def of(self, read: Pass) -> torch.Tensor:
        """(batch,) the number of each sequence of this pass; an empty cache, or none, starts new ones."""
        batch = len(read.token_id)
        owner = read.cache
        if owner is None:
            owner = self
        if read.past == 0 or owner not in self._first:
            self._first[owner] = self._next
            self._next += batch
        return self._first[owner] + torch.arange(batch)
