"""What a recording keeps of each KV cache: its sequences, and only the tokens that stayed in it.

Assisted decoding and prompt lookup let the model read several guessed tokens at once and crop the wrong ones
off the cache afterwards. What was cropped is no text: it leaves the recording, too.
"""

import weakref
from dataclasses import dataclass

import torch
from transformers import Cache

from helpers import CourseError
from helpers.language import say
from helpers.routing.passes import Pass


@dataclass
class KeptPass:
    """What is kept of one pass, one row for each of its batch * length tokens."""

    past: int
    """How many places of the cache were filled before it."""
    length: int
    """How many tokens of each sequence it read."""
    columns: dict[str, torch.Tensor]
    """The rows, in the names of `Routing`; "real" is False for rows that are no text."""

    def forget_from(self, place: int) -> None:
        """The tokens from this place of the cache on are no text."""
        real = self.columns["real"].reshape(-1, self.length)  # (batch, length)
        places = torch.arange(self.past, self.past + self.length, device=real.device)
        self.columns["real"] = (real & (places < place)).flatten()


class CacheRecord:
    """The passes that filled one KV cache, and what became of it since the last one.

    It holds on to one layer of the cache, also when `generate` has dropped the cache itself: only so it sees
    what is cropped off after the last pass.
    """

    def __init__(self, first_sequence: int, cache: Cache):
        self.first_sequence = first_sequence
        self.passes: list[KeptPass] = []
        self._cache = weakref.ref(cache)
        self._layer = first_attention_layer(cache)
        self._memory = None
        self._taken = 0  # places whose passes `take_passes` has given away

    @property
    def cache(self) -> Cache | None:
        """The cache, as long as somebody else uses it."""
        return self._cache()

    def add(self, kept: KeptPass) -> None:
        """Another pass has filled the cache."""
        self.passes.append(kept)
        self._memory = memory_of(self._layer)

    def forget_what_was_cropped(self) -> None:
        """Forget the tokens that were cropped off the cache since the last pass.

        A cache that was emptied starts a new text, and the old one stays. CourseError if the tokens that were
        cropped have been counted.
        """
        places = self._layer.get_seq_length()
        if places == 0:
            return
        if places < self._taken:
            raise CourseError(
                say(
                    "The routing cannot be counted: {tokens} tokens that are counted were cropped off the KV "
                    "cache; record without counts_only.",
                    tokens=self._taken - places,
                )
            )
        for kept in reversed(self.passes):
            if kept.past + kept.length <= places:
                break
            kept.forget_from(places)

    def check_order(self) -> None:
        """CourseError if the sequences in the cache have changed: which row is which text is then unknown."""
        if memory_of(self._layer) != self._memory:
            raise CourseError(
                say(
                    "The routing cannot be recorded: the sequences in the KV cache were exchanged or "
                    "repeated since the last pass, as beam search does; use num_beams=1."
                )
            )

    def take_passes(self) -> list[KeptPass]:
        """Give the passes away, for counting: nothing of them may be cropped any more."""
        taken = self.passes
        self.passes = []
        self._taken = self._layer.get_seq_length()
        return taken


def first_attention_layer(cache: Cache):
    """The first layer of a cache that says how many tokens it holds."""
    for layer in cache.layers:
        if hasattr(layer, "get_seq_length"):
            return layer
    return None


def memory_of(layer) -> int | None:
    """Where in memory a layer of a cache keeps its keys: cropping leaves them there, other changes do not."""
    keys = getattr(layer, "keys", None)
    if keys is None:
        return None
    return keys.untyped_storage().data_ptr()


class CacheRecords:
    """All passes of a recording, by KV cache."""

    def __init__(self):
        self._sequences = 0  # how many the recording has so far
        self._open: list[CacheRecord] = []  # of caches that may still change
        self._finished: list[KeptPass] = []  # of caches that are gone or emptied, and passes without a cache
        self._last_ids = None  # what the last pass read, if it had no cache

    def look_at_the_caches(self, next_cache: Cache | None) -> None:
        """Before a pass: see what has happened to the caches since the last one.

        CourseError if `next_cache`, which the pass will use, is not as its last pass left it.
        """
        for record in list(self._open):
            cache = record.cache
            record.forget_what_was_cropped()
            if cache is None or cache.get_seq_length() == 0:
                self._open.remove(record)
                self._finished += record.take_passes()
            elif cache is next_cache:
                record.check_order()

    def add(self, read: Pass, columns: dict[str, torch.Tensor]) -> None:
        """Keep a pass, one row for each of its batch * length tokens, and number its sequences.

        CourseError if the pass reads a text again, with a token more.
        """
        kept = KeptPass(read.past, read.length, columns)
        if read.cache is None:
            self._check_that_it_is_a_new_text(read.token_id)
            first_sequence = self._new_sequences(read.batch)
            self._last_ids = read.token_id
            self._finished.append(kept)
        else:
            record = self._record_of(read)
            first_sequence = record.first_sequence
            self._last_ids = None
            record.add(kept)
        sequence = first_sequence + torch.arange(read.batch)
        columns["sequence"] = sequence.repeat_interleave(read.length)

    def take_passes(self) -> list[KeptPass]:
        """Give all passes away: nothing of them may be cropped any more."""
        taken = self._finished
        self._finished = []
        for record in self._open:
            taken += record.take_passes()
        return taken

    def _record_of(self, read: Pass) -> CacheRecord:
        """The record of the cache of this pass: the one that there is, or a new one with new sequences."""
        for record in self._open:
            if record.cache is read.cache:
                return record
        record = CacheRecord(self._new_sequences(read.batch), read.cache)
        self._open.append(record)
        return record

    def _new_sequences(self, batch: int) -> int:
        """Number of the first of `batch` new sequences."""
        first = self._sequences
        self._sequences += batch
        return first

    def _check_that_it_is_a_new_text(self, token_id: torch.Tensor) -> None:
        last = self._last_ids
        if last is None or token_id[:, :-1].shape != last.shape:
            return
        same = (token_id[:, None, :-1] == last).all(-1)  # (batch, batch): each row with each of the last pass
        if same.any(1).all():
            raise CourseError(
                say(
                    "The routing cannot be recorded: this pass reads the {tokens} tokens of the last one "
                    "again, as generate() does with use_cache=False, and would count them twice; use the "
                    "cache.",
                    tokens=last.shape[1],
                )
            )
