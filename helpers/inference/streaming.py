"""From new token ids to text, while the model is still writing."""

import queue
import threading
import time
from collections.abc import Iterator

from helpers import CourseError
from helpers.inference.chat import Message, encode_chat

READ_SECONDS = 0.05  # new text is read 20 times a second


class TokenQueue:
    """The streamer for `generate`: hands token ids, with the time, to the thread that reads them."""

    def __init__(self):
        self._items = queue.SimpleQueue()  # (seconds, token id), and at the end None or an error
        self._has_prompt = False
        self._ended = threading.Event()

    def put(self, tokens) -> None:
        """Take over the next token, (1,); `generate` hands over the prompt, (1, tokens), first."""
        if self._has_prompt:
            self._items.put((time.perf_counter(), tokens.item()))
        self._has_prompt = True

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

    def __init__(self, model, tokenizer, options: dict, stop: threading.Event | None = None):
        """`options` go to `generate` and hold `input_ids`, (1, tokens); `stop` is the caller's own event."""
        #: Tokens of the conversation, with the template's own.
        self.prompt_tokens: int = options["input_ids"].shape[1]
        #: Tokens generated so far; the token that ends the turn counts too.
        self.new_tokens = 0
        #: Seconds from the start to the first token; None before it.
        self.first_token_seconds: float | None = None
        #: Rate after the first token.
        self.tokens_per_second = 0.0
        #: "stop" (the model ended its turn), "length" (max_new_tokens) or "stopped"; None before the loop.
        self.finish_reason: str | None = None
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._own_stop = threading.Event()
        self._callers_stop = stop

    def stop(self) -> None:
        """End the answer after the token that is being computed; any thread may call this."""
        self._own_stop.set()

    def _stopped(self, *_, **__) -> bool:
        """Also a stopping criterion of `generate`, which calls it with what it has generated."""
        by_caller = self._callers_stop is not None and self._callers_stop.is_set()
        return by_caller or self._own_stop.is_set()

    def _generate(self, tokens: TokenQueue) -> None:
        """The thread."""
        import torch  # imported late: torch takes seconds

        try:
            with torch.inference_mode():  # a little faster than the no_grad of generate
                self._model.generate(**self._options, streamer=tokens, stopping_criteria=[self._stopped])
            tokens.end()
        except BaseException as error:
            tokens.end(error)

    def _count(self, first: float, now: float) -> None:
        """Count one more token; `first` and `now` are the times of the first one and of this one."""
        self.new_tokens += 1
        elapsed = max(now - first, 1e-9)
        self.tokens_per_second = (self.new_tokens - 1) / elapsed

    def _reason(self, last_token: int) -> str:
        """Why an answer that nobody broke off has ended."""
        ends = self._options.get("eos_token_id", self._model.generation_config.eos_token_id)
        if not isinstance(ends, list):
            ends = [ends]
        if last_token in ends:
            return "stop"
        if self.new_tokens >= self._options["max_new_tokens"]:
            return "length"
        return "stopped"

    def __iter__(self) -> Iterator[str]:
        """Generate, and yield text once its characters are complete: a character may take several tokens."""
        if self.finish_reason:
            raise RuntimeError("A ChatStream can be read only once.")
        self.finish_reason = "stopped"  # until something else is known
        if self._stopped():
            return
        tokens = TokenQueue()
        pending: list[int] = []  # tokens whose text is not complete yet
        start = time.perf_counter()
        thread = threading.Thread(target=self._generate, args=(tokens,), daemon=True)
        thread.start()
        try:
            for now, token in tokens:
                if self.first_token_seconds is None:
                    first = now
                    self.first_token_seconds = now - start
                self._count(first, now)
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


def stream_chat(
    model, tokenizer, messages: list[Message], *, max_new_tokens=512, stop=None, **generate_options
) -> ChatStream:
    """Answer a conversation piece by piece, see ChatStream; `stop` is a threading.Event that ends it.

    `generate_options` go to `generate`; what is not given comes from the model's own generation_config.
    CourseError when the conversation leaves no room for an answer.
    """
    inputs = encode_chat(tokenizer, messages).to(model.device)
    length = inputs["input_ids"].shape[1]
    context = model.config.max_position_embeddings
    if length >= context or max_new_tokens < 1:
        raise CourseError(
            f"The chat fills {length:,} of {context:,} tokens and {max_new_tokens:,} new ones are wanted: "
            "shorten it, or ask for at least one new token."
        )
    new_tokens = min(max_new_tokens, context - length)
    options = {**inputs, **generate_options, "max_new_tokens": new_tokens}
    return ChatStream(model, tokenizer, options, stop)
