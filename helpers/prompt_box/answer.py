"""One answer of the model: from the conversation to the last bubble of the box."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

from IPython import get_ipython

from helpers.inference import stream_chat
from helpers.prompt_box.conversation import Conversation, Message, fit
from helpers.prompt_box.routing_strip import routing_strip
from helpers.prompt_box.view import View
from helpers.routing import RoutingRecorder

REFRESH_SECONDS = 0.1  # a refresh sends two messages to the browser: the last bubble and the status line
ENDINGS = {"stop": "", "stopped": "Stopped.", "length": "Cut off: the number of new tokens is used up."}


def figures(stream, context: int) -> str:
    """The status line of an answer: tokens in and out, how full the context is, tokens per second."""
    used = stream.prompt_tokens + stream.new_tokens
    parts = [
        f"{stream.prompt_tokens:,} tokens in",
        f"{stream.new_tokens:,} out",
        f"context {used:,} of {context:,}",
    ]
    if stream.first_token_seconds is not None:
        parts.append(f"{stream.tokens_per_second:.1f} tokens/s")
        parts.append(f"first after {stream.first_token_seconds:.2f} s")
    return " · ".join(parts)


def a_cell_is_running() -> bool:
    """Whether the notebook runs a cell at this moment; clicks may then have to wait for its end."""
    shell = get_ipython()
    return shell is not None and shell.display_trap.is_active


class Answer:
    """The answer to one question. It changes the conversation and the view, and belongs into a thread."""

    def __init__(self, model, tokenizer, conversation: Conversation, view: View, stop: threading.Event):
        self.model = model
        self.tokenizer = tokenizer
        self.conversation = conversation
        self.view = view
        self.stop = stop
        self.context: int = model.config.max_position_embeddings  # tokens
        #: Whether the question has become part of the conversation.
        self.was_asked = False
        #: Whether a part of the answer is there.
        self.has_begun = False

    def write(self, question: str, again: bool, show_routing: bool, on_asked: Callable[[], None]) -> str:
        """Fill the last bubble while the model generates; returns what to say at the end.

        `again`: `question` is the last one, and this answer is to replace the one that it has. `on_asked()`
        is called when the question has become part of the conversation; until then it may be refused.
        """
        # 1. Everything that can refuse. The question is then still in the text area.
        system = self.view.system.value
        options = self.view.generate_options()
        prompt = self.conversation.prompt(system, question, again)
        prompt, dropped = fit(prompt, self.tokenizer, self.context - options["max_new_tokens"])
        recorder = nullcontext()
        if show_routing:
            recorder = RoutingRecorder(self.model)

        # 2. From here on the question is asked. Regenerate keeps its bubble, and the old answer for now.
        if not again:
            self.conversation.ask(question)
            self.view.show_question(question)
        self.was_asked = True
        on_asked()

        # 3. The answer, piece by piece.
        with recorder:
            stream = self._stream(prompt, system, options)

        # 4. What is known only at the end.
        self.view.show_status(figures(stream, self.context))
        if show_routing and stream.token_ids:
            strip = routing_strip(recorder.routing, self.tokenizer, stream.token_ids[-1])
            self.view.show_answer(self.conversation.answer, strip)
        ending = ENDINGS[stream.finish_reason]
        if dropped:
            left_out = "the oldest turn"
            if dropped > 1:
                left_out = f"the oldest {dropped} turns"
            ending = f"Left out to fit the context of {self.context:,} tokens: {left_out}. {ending}"
        return ending.strip()

    def _stream(self, prompt: list[Message], system: str, options: dict):
        """Show the answer a few times a second while it grows; what has arrived is kept if it breaks off."""
        text = ""
        last_shown = 0.0
        try:
            options = {**options, "stop": self.stop, "prefix": self.conversation.prefix}
            stream = stream_chat(self.model, self.tokenizer, prompt, **options)
            for piece in stream:
                self.has_begun = True
                text += piece
                now = time.monotonic()
                if now - last_shown >= REFRESH_SECONDS:
                    last_shown = now
                    self.view.show_answer(text)
                    self._show_status(stream)
        finally:
            if text:
                self.conversation.set_answer(system, text)
            self.view.show_answer(self.conversation.answer)
        return stream

    def _show_status(self, stream) -> None:
        """The status line while the answer is being written."""
        line = figures(stream, self.context)
        if a_cell_is_running():
            line += " · a cell is running: Stop may have to wait for its end"
        self.view.show_status(line)
