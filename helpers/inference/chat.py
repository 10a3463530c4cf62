"""From a conversation to token ids, and from new tokens to text that arrives while it is written."""

import queue
import re
import threading
import time
import uuid
from collections.abc import Iterator

from helpers import CourseError

READ_SECONDS = 0.05  # new text is read 20 times a second


def encode_chat(tokenizer, messages: list[dict[str, str]]):
    """Encode a conversation as `input_ids` and `attention_mask`, (1, tokens), ready for `generate(**inputs)`.

    The ids of `apply_chat_template(messages, add_generation_prompt=True)`, except that a control token typed
    in a message, such as `<|im_end|>`, stays text: a random mark splits it while the template is rendered, so
    every control token in the rendered text is the template's own.
    """
    from transformers import BatchEncoding

    control = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    pattern = "|".join(re.escape(token) for token in sorted(control, key=len, reverse=True))
    mark = uuid.uuid4().hex

    def guard(text: str) -> str:
        text = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is not text
        return re.sub(pattern, lambda found: found[0][:1] + mark + found[0][1:], text)

    guarded = [{key: guard(value) for key, value in message.items()} for message in messages]
    rendered = tokenizer.apply_chat_template(guarded, tokenize=False, add_generation_prompt=True)
    ids: list[int] = []
    options = {"add_special_tokens": False, "verbose": False}  # how long is too long, the caller knows
    for part in re.split(f"({pattern})", rendered):
        text = part.replace(mark, "")
        ids += tokenizer.encode(text, split_special_tokens=part not in control, **options)
    return BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]}, tensor_type="pt")


class _TokenQueue(queue.SimpleQueue):
    """The streamer for `generate`: hands token ids, with the time, to the thread that reads them."""

    def __init__(self):
        super().__init__()
        self.has_prompt, self.ended = False, threading.Event()

    def put(self, tokens) -> None:
        if self.has_prompt:  # generate hands over the prompt first
            super().put((time.perf_counter(), tokens.item()))
        self.has_prompt = True

    def end(self, error: BaseException | None = None) -> None:
        super().put(error)
        self.ended.set()

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Time and id of each token; raises what `generate` raised. Looks for new ones every READ_SECONDS.

        Two Python threads never run at once: a reader that woke up for every token would slow `generate`.
        """
        while True:
            item = self.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item
            if self.empty():
                self.ended.wait(READ_SECONDS)


class ChatStream:
    """An answer that is still being written: loop over it, once, to get its pieces of text.

    A background thread generates; leaving the loop early stops it, and what it raises is raised in the loop.
    `new_tokens` counts the end-of-turn token too; `tokens_per_second` is the rate after the first token;
    `finish_reason` is "stop" (the model ended its turn), "length" (max_new_tokens) or "stopped".
    """

    def __init__(self, model, tokenizer, options: dict, stop: threading.Event | None):
        self._model, self._tokenizer, self._options = model, tokenizer, options
        self._stops = [threading.Event(), *([stop] if stop else [])]
        self.prompt_tokens, self.new_tokens = options["input_ids"].shape[1], 0
        self.first_token_seconds, self.tokens_per_second, self.finish_reason = None, 0.0, None

    def stop(self) -> None:
        """End the answer after the token that is being computed; any thread may call this."""
        self._stops[0].set()

    def _stopped(self, *_, **__) -> bool:
        return any(event.is_set() for event in self._stops)

    def _generate(self, tokens: _TokenQueue) -> None:
        import torch

        try:
            with torch.inference_mode():  # a little faster than the no_grad of generate
                self._model.generate(**self._options, streamer=tokens, stopping_criteria=[self._stopped])
            tokens.end()
        except BaseException as error:
            tokens.end(error)

    def __iter__(self) -> Iterator[str]:
        """Generate, and yield text once its characters are complete: a character may take several tokens."""
        if self.finish_reason:
            raise RuntimeError("A ChatStream can be read only once.")
        self.finish_reason, tokens, pending, start = "stopped", _TokenQueue(), [], time.perf_counter()
        if self._stopped():
            return
        thread = threading.Thread(target=self._generate, args=(tokens,), daemon=True)
        thread.start()
        try:
            for when, token in tokens:
                if not self.new_tokens:
                    first, self.first_token_seconds = when, when - start
                self.new_tokens += 1
                self.tokens_per_second = (self.new_tokens - 1) / max(when - first, 1e-9)
                pending.append(token)
                piece = self._tokenizer.decode(pending, skip_special_tokens=True)
                if piece and not piece.endswith("\ufffd"):
                    pending.clear()
                    yield piece
            ends = self._options.get("eos_token_id", self._model.generation_config.eos_token_id)
            if token in (ends if isinstance(ends, list) else [ends]):
                self.finish_reason = "stop"
            elif self.new_tokens >= self._options["max_new_tokens"]:
                self.finish_reason = "length"
            if rest := self._tokenizer.decode(pending, skip_special_tokens=True):
                yield rest  # half a character, where max_new_tokens cut it
        finally:
            self.stop()
            thread.join()


def stream_chat(
    model, tokenizer, messages, *, max_new_tokens=512, stop=None, **generate_options
) -> ChatStream:
    """Answer a conversation piece by piece, see ChatStream; `stop` is a threading.Event that ends it.

    `generate_options` go to `generate`; what is not given comes from the model's own generation_config.
    CourseError when the conversation leaves no room for an answer.
    """
    inputs = encode_chat(tokenizer, messages).to(model.device)
    length, context = inputs["input_ids"].shape[1], model.config.max_position_embeddings
    if length >= context or max_new_tokens < 1:
        raise CourseError(
            f"The chat fills {length:,} of {context:,} tokens and {max_new_tokens:,} new ones are wanted: "
            "shorten it, or ask for at least one new token."
        )
    options = {**inputs, **generate_options, "max_new_tokens": min(max_new_tokens, context - length)}
    return ChatStream(model, tokenizer, options, stop)
