"""From new token ids to text, while the model is still writing."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from numbers import Integral

from helpers import CourseError
from helpers.inference.chat import encode_chat
from helpers.inference.generate_options import check_streamable, effective_config, end_tokens, refused
from helpers.inference.messages import Message
from helpers.inference.overflow import OverflowCheck, overflow_error
from helpers.inference.prefix import KeptPrefix, add_kept_cache, keep_cache, leaves_cache_alone
from helpers.language import say

#: What wrong options end in, somewhere inside of `generate`.
OF_OPTIONS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, NotImplementedError)
OF_OPTIONS += (AssertionError, ImportError)  # a cache for GPUs only, or of a package that is not installed
READ_SECONDS = 0.05  # new text is read 20 times a second


class TokenQueue:
    """The streamer for `generate`: hands token ids, with the time, to the thread that reads them."""

    def __init__(self, overflow: OverflowCheck, dtype):
        self._overflow = overflow
        self._dtype = dtype  # of the model, for the sentence
        self._items = queue.SimpleQueue()  # (seconds, token id), and at the end None or an error
        self._has_prompt = False
        self._ended = threading.Event()
        #: Whether a token was handed over.
        self.has_tokens = False

    def put(self, tokens) -> None:
        """Take over the next token, (1,), or several, (1, tokens), from assisted decoding.

        `generate` hands over the prompt, (1, tokens), first. CourseError when the model overflowed: it ends
        `generate`.
        """
        if not self._has_prompt:
            self._has_prompt = True
            return
        if self._overflow.overflowed:
            raise overflow_error(self._dtype)
        self.has_tokens = True
        now = time.perf_counter()
        for token in tokens.flatten().tolist():
            self._items.put((now, token))

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more tokens come, and why if it is an error."""
        self._items.put(error)
        self._ended.set()

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Time and id of each token; raises what `generate` raised. Looks for new ones every READ_SECONDS.

        Two Python threads never run at once: a reader that woke up for every token would slow `generate`.
        """
        while True:
            item = self._items.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item
            if self._items.empty():
                self._ended.wait(READ_SECONDS)


class ChatStream:
    """An answer that is still being written: loop over it, once, to get its pieces of text.

    A background thread generates; leaving the loop early stops it, and what it raises is raised in the loop.
    """

    def __init__(
        self,
        model,
        tokenizer,
        options: dict,
        ends: list[int],
        stop: threading.Event | None,
        prefix: KeptPrefix | None,
    ):
        """What `stream_chat` has prepared.

        `options` go to `generate` and hold `input_ids`, (1, tokens); `ends` are the tokens that end a turn;
        `stop` is the caller's own event; `prefix` keeps the cache for the next turn, None: nobody does.
        """
        #: Tokens of the conversation, with the template's own.
        self.prompt_tokens: int = options["input_ids"].shape[1]
        #: How many of them were not computed, because the cache of the turn before was used again.
        self.reused_tokens = 0
        #: Tokens generated so far; the token that ends the turn counts too.
        self.new_tokens = 0
        #: Their ids.
        self.token_ids: list[int] = []
        #: Seconds from the start to the first token; None before it.
        self.first_token_seconds: float | None = None
        #: Rate after the first token.
        self.tokens_per_second = 0.0
        #: "stop" (the model ended its turn, or wrote one of the stop_strings), "length" (max_new_tokens) or
        #: "stopped"; None before the loop.
        self.finish_reason: str | None = None
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._ends = ends
        self._was_told = bool(set(options) - {"input_ids", "attention_mask", "max_new_tokens", "tokenizer"})
        self._own_stop = threading.Event()
        self._callers_stop = stop
        self._prefix = prefix

    def stop(self) -> None:
        """End the answer after the token that is being computed; any thread may call this."""
        self._own_stop.set()

    def _stopped(self, *_, **__) -> bool:
        """Also a stopping criterion of `generate`, which calls it with what it has generated."""
        by_caller = self._callers_stop is not None and self._callers_stop.is_set()
        return by_caller or self._own_stop.is_set()

    def _generate(self, tokens: TokenQueue, overflow: OverflowCheck) -> None:
        """The thread."""
        import torch  # imported late: torch takes seconds

        try:
            options = dict(self._options)
            options["streamer"] = tokens
            options["stopping_criteria"] = [self._stopped]
            options["logits_processor"] = [*(options.get("logits_processor") or []), overflow]
            with torch.inference_mode():  # a little faster than the no_grad of generate
                self.reused_tokens = add_kept_cache(self._prefix, self._model, options)
                keep_cache(self._prefix, self._model, self._model.generate(**options))
            tokens.end()
        except BaseException as error:
            if isinstance(error, OF_OPTIONS) and self._was_told and not tokens.has_tokens:
                error = refused(error)  # what generate does not take now, it will not take later
            tokens.end(error)

    def _count(self, first: float, now: float) -> None:
        """Count one more token; `first` and `now` are the times of the first one and of this one."""
        self.new_tokens += 1
        elapsed = max(now - first, 1e-9)
        self.tokens_per_second = (self.new_tokens - 1) / elapsed

    def _reason(self, last_token: int) -> str:
        """Why an answer that nobody broke off has ended."""
        if last_token in self._ends:
            return "stop"
        if self.new_tokens >= self._options["max_new_tokens"]:
            return "length"
        if self._stopped():
            return "stopped"
        return "stop"  # one of the stop_strings of the options

    def __iter__(self) -> Iterator[str]:
        """Generate, and yield text once its characters are complete: a character may take several tokens."""
        if self.finish_reason:
            raise RuntimeError(say("A ChatStream can be read only once."))
        self.finish_reason = "stopped"  # until something else is known
        if self._stopped():
            return
        overflow = OverflowCheck()
        tokens = TokenQueue(overflow, self._model.dtype)
        pending: list[int] = []  # tokens whose text is not complete yet
        start = time.perf_counter()
        thread = threading.Thread(target=self._generate, args=(tokens, overflow), daemon=True)
        thread.start()
        try:
            for now, token in tokens:
                if self.first_token_seconds is None:
                    first = now
                    self.first_token_seconds = now - start
                self._count(first, now)
                self.token_ids.append(token)
                pending.append(token)
                piece = self._tokenizer.decode(pending, skip_special_tokens=True)
                if piece and not piece.endswith("\ufffd"):
                    pending.clear()
                    yield piece
            self.finish_reason = self._reason(token)
            rest = self._tokenizer.decode(pending, skip_special_tokens=True)
            if rest:  # half a character, where max_new_tokens cut it
                yield rest
        finally:
            self.stop()
            thread.join()


def context_tokens(model) -> int | None:
    """How many tokens of prompt and answer the model was made for; None if its config does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_kinds(max_new_tokens, stop) -> None:
    """Refuse a number of tokens that is none, and a `stop` that is no event."""
    if not isinstance(max_new_tokens, Integral):
        raise CourseError(
            say("max_new_tokens is {value!r}: give a whole number, such as 512.", value=max_new_tokens)
        )
    if stop is not None and not hasattr(stop, "is_set"):
        raise CourseError(
            say(
                "stop is of type {kind}: give a threading.Event; texts that end the answer go into "
                "stop_strings=['...'].",
                kind=type(stop).__name__,
            )
        )


def stream_chat(
    model,
    tokenizer,
    messages: Sequence[Message],
    *,
    max_new_tokens=512,
    stop=None,
    prefix: KeptPrefix | None = None,
    **generate_options,
) -> ChatStream:
    """Answer a conversation piece by piece, see ChatStream; `stop` is a threading.Event that ends it.

    `prefix`: a KeptPrefix of this chat. What the prompt has in common with the turn before is then not
    computed again, where that is safe.
    `generate_options` go to `generate`; what is not given comes from the model's own generation_config.
    CourseError when the conversation cannot be encoded or leaves no room for an answer, and for options with
    which there is no single answer that grows token by token.
    """
    check_kinds(max_new_tokens, stop)
    config = effective_config(model, generate_options)
    check_streamable(config)
    inputs = encode_chat(tokenizer, messages).to(model.device)
    length = inputs["input_ids"].shape[1]
    context = context_tokens(model)
    if context is None:
        context = length + max_new_tokens
    if length >= context or max_new_tokens < 1:
        raise CourseError(
            say(
                "The chat fills {length:,} of {context:,} tokens and {wanted:,} new ones are wanted: shorten "
                "it, or ask for at least one new token.",
                length=length,
                context=context,
                wanted=max_new_tokens,
            )
        )
    new_tokens = min(max_new_tokens, context - length)
    options = {**inputs, **generate_options, "max_new_tokens": new_tokens}
    if config.stop_strings:
        options["tokenizer"] = tokenizer  # generate looks for these texts itself
    if prefix is not None and not leaves_cache_alone(config, set(generate_options)):
        prefix.forget()
        prefix = None
    return ChatStream(model, tokenizer, options, end_tokens(config), stop, prefix)
