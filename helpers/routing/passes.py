"""One forward pass of a model: which tokens it read, and where they stand in their sequences."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from transformers import Cache

from helpers import CourseError
from helpers.language import say


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
    cache: Cache | None
    """The KV cache that the pass used or made, if any."""

    @property
    def batch(self) -> int:
        """How many sequences it read."""
        return self.token_id.shape[0]

    @property
    def length(self) -> int:
        """How many tokens of each it read, padding counted."""
        return self.token_id.shape[1]

    @property
    def decode(self) -> bool:
        """Whether each token was computed alone, on a KV cache."""
        return self.length == 1 and self.past > 0


def check_inputs(inputs: dict) -> None:
    """CourseError unless a model's arguments say which tokens it will read, and which of them are padding."""
    ids = inputs.get("input_ids")
    if ids is None:
        raise CourseError(
            say(
                "The routing cannot be recorded: this pass got no input_ids, so its tokens are unknown; pass "
                "input_ids= by name, not inputs_embeds=."
            )
        )
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise CourseError(
            say(
                "The routing cannot be recorded: input_ids has the shape {shape}; it must be (batch, tokens) "
                "with at least one token.",
                shape=tuple(ids.shape),
            )
        )
    if inputs.get("cu_seq_lens_q") is not None:
        raise CourseError(
            say(
                "The routing cannot be recorded: this pass packs several texts into one row, as "
                "generate_batch() does; use generate()."
            )
        )
    mask = inputs.get("attention_mask")
    if mask is not None and not is_plain_mask(mask):
        raise CourseError(
            say(
                "The routing cannot be recorded: the attention mask is not one (batch, tokens), so padding "
                "is unknown; pass such a mask or none, and do not use a static cache or generate_batch()."
            )
        )


def is_plain_mask(mask) -> bool:
    """Whether this is a tensor (batch, tokens); a static cache has another kind of mask."""
    return isinstance(mask, torch.Tensor) and mask.ndim == 2


def read_pass(inputs: dict, output, end_tokens: Collection[int]) -> Pass:
    """What a model's own arguments and output say of a pass that has ended.

    `end_tokens` are the tokens that `generate` feeds to the finished sequences of a batch. CourseError where
    the cache or the mask does not say where the tokens stand.
    """
    ids = inputs["input_ids"]
    batch, length = ids.shape
    cache = find_cache(inputs, output)
    past = 0
    if cache is not None:
        past = filled_places(cache) - length
    mask = inputs.get("attention_mask")
    if mask is None:
        mask = ids.new_ones(batch, past + length)
    if mask.shape != (batch, past + length):
        raise CourseError(
            say(
                "The routing cannot be recorded: the attention mask has the shape {shape}, but with the "
                "{past} tokens in the KV cache it must have {wanted}.",
                shape=tuple(mask.shape),
                past=past,
                wanted=(batch, past + length),
            )
        )
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


def find_cache(inputs: dict, output) -> Cache | None:
    """The KV cache that a pass was given, or else the one that it made."""
    candidates = [inputs.get("past_key_values"), getattr(output, "past_key_values", None)]
    if isinstance(output, tuple):
        candidates += output
    for candidate in candidates:
        if isinstance(candidate, Cache):
            return candidate
    return None


def filled_places(cache: Cache) -> int:
    """How many places of a KV cache are filled. CourseError if it does not say."""
    if cache.is_compileable:
        raise CourseError(
            say(
                "The routing cannot be recorded: a static cache has the same length before and after a pass; "
                "use the usual dynamic cache."
            )
        )
    try:
        return cache.get_seq_length()
    except ValueError as error:  # only layers with linear attention, which keep no places
        raise CourseError(
            say(
                "The routing cannot be recorded: no layer of the cache says how many tokens it holds; use a "
                "model with at least one layer of attention."
            )
        ) from error
