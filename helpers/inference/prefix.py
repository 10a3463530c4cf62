"""Keep the KV cache of a chat from one turn to the next, so that only what is new has to be computed.

The prompt of a turn begins with what was said before, and the model would compute the same keys and values
for the same tokens again. They are taken over only where that is certain: the same model with the same
weights, nobody who watches or changes its passes, a cache from which tokens can be removed, and tokens that
are equal one by one from the first on. Everywhere else the whole prompt is computed, without a word.
"""

import weakref
from dataclasses import dataclass

from helpers import compat

#: Options of `generate` that choose the next token and leave the cache alone.
HARMLESS_OPTIONS = {
    "do_sample",
    "eos_token_id",
    "min_new_tokens",
    "min_p",
    "pad_token_id",
    "repetition_penalty",
    "stop_strings",
    "temperature",
    "top_k",
    "top_p",
}
#: Settings that use a cache, or the prompt, in a way of their own.
OWN_WAYS = (
    "cache_implementation",
    "guidance_scale",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "token_healing",
)


@dataclass(frozen=True)
class WeightState:
    """One weight of a model as it was at a time, without holding on to it."""

    weight: weakref.ref
    changes: int | None
    """How often it was changed in place; None if it does not count that."""
    address: int
    """Where its numbers lie: elsewhere after a conversion to another number format."""

    @classmethod
    def of(cls, weight) -> "WeightState":
        """The state of a weight now."""
        return cls(weakref.ref(weight), compat.changes_of(weight), weight.data_ptr())

    def is_same(self, now: "WeightState") -> bool:
        """Whether it is the same weight, unchanged; False where that cannot be known."""
        if self.changes is None or self.weight() is None:
            return False
        same_numbers = self.changes == now.changes and self.address == now.address
        return same_numbers and self.weight() is now.weight()


@dataclass(frozen=True)
class Kept:
    """A cache, the tokens whose keys and values it holds, and the model that computed them."""

    cache: object
    token_ids: list[int]
    model_state: list[WeightState]


class KeptPrefix:
    """The KV cache of the last answer of a chat, for `stream_chat(..., prefix=...)`: one for each chat.

    Between two turns it takes the memory of that cache: for each token keys and values in every layer, as in
    the forecast of notebook 02. `forget` gives it back.
    """

    def __init__(self):
        self._kept: Kept | None = None

    @property
    def tokens(self) -> int:
        """How many tokens are kept."""
        if self._kept is None:
            return 0
        return len(self._kept.token_ids)

    def forget(self) -> None:
        """Let go of the cache: the next prompt is computed whole."""
        self._kept = None

    def take(self, model, token_ids: list[int]) -> tuple[object, int]:
        """Hand over the cache, cropped to the beginning that this prompt has too, and the length of that.

        (None, 0) if there is nothing to use again. The cache is then forgotten: what `generate` adds to it
        belongs to another chat, or stays unfinished if it is interrupted.
        """
        kept = self._kept
        self._kept = None
        if kept is None or compat.has_hooks(model) or not same_state(kept.model_state, state_of(model)):
            return None, 0
        most = len(token_ids) - 1  # at least one token must be computed: the next one follows from it
        shared = min(common_beginning(kept.token_ids, token_ids), most)
        if shared == 0:
            return None, 0
        surplus = len(kept.token_ids) - shared
        if surplus:
            kept.cache.crop(-surplus)
        return kept.cache, shared

    def keep(self, model, token_ids: list[int], cache) -> None:
        """Keep the cache of an answer that came to its end; `token_ids`: prompt and answer.

        The last token of an answer is never read, so the cache holds fewer of them. Nothing is kept where it
        could not be used again.
        """
        self._kept = None
        if compat.has_hooks(model):
            return
        length = filled_places(cache)
        if 0 < length <= len(token_ids):
            self._kept = Kept(cache, token_ids[:length], state_of(model))


def add_kept_cache(prefix: KeptPrefix | None, model, options: dict) -> int:
    """Put the cache of the turn before into the options of `generate`; returns how many tokens it holds.

    `options` hold `input_ids`, (1, tokens). Without `prefix` nothing is done.
    """
    if prefix is None:
        return 0
    options["return_dict_in_generate"] = True  # so that generate gives its cache back
    cache, shared = prefix.take(model, options["input_ids"][0].tolist())
    if cache is not None:
        options["past_key_values"] = cache
    return shared


def keep_cache(prefix: KeptPrefix | None, model, output) -> None:
    """Keep the cache in what `generate` has returned, for the next turn. Without `prefix` nothing is done."""
    if prefix is not None:
        prefix.keep(model, output.sequences[0].tolist(), output.past_key_values)


def leaves_cache_alone(config, option_names: set[str]) -> bool:
    """Whether `generate` uses its cache in the plain way, with these options and this configuration."""
    if option_names - HARMLESS_OPTIONS:
        return False
    return not any(getattr(config, name, None) for name in OWN_WAYS)


def common_beginning(cached: list[int], prompt: list[int]) -> int:
    """How many tokens are equal, from the first on."""
    count = 0
    for old, new in zip(cached, prompt, strict=False):
        if old != new:
            break
        count += 1
    return count


def filled_places(cache) -> int:
    """How many tokens of one sequence a cache holds; 0 if tokens cannot be removed from it again.

    That is certain of layers that keep every token and nothing else: a sliding window has lost some, a static
    cache is too large, and recurrent states cannot go back.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer  # imported late: it takes seconds

    if type(cache) is not DynamicCache:
        return 0
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return 0
    lengths = {layer.get_seq_length() for layer in cache.layers}
    if len(lengths) != 1:
        return 0
    return lengths.pop()


def state_of(model) -> list[WeightState]:
    """The model's weights as they are now."""
    return [WeightState.of(weight) for weight in model.parameters()]


def same_state(before: list[WeightState], now: list[WeightState]) -> bool:
    """Whether these are the same weights, unchanged."""
    return len(before) == len(now) and all(map(WeightState.is_same, before, now))
