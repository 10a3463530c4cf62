"""One answer of the model: from the conversation to the last bubble of the box."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

from IPython import get_ipython

from helpers.inference import stream_chat
from helpers.language import say, to_say
from helpers.prompt_box.conversation import Conversation, Message, fit
from helpers.prompt_box.routing_strip import routing_strip
from helpers.prompt_box.view import View
from helpers.routing import RoutingRecorder

REFRESH_SECONDS = 0.1  # a refresh sends two messages to the browser: the last bubble and the status line

# The status line of an answer: before its first token, with it, and where a click may have to wait.
READING = to_say("{prompt:,} tokens in · {new:,} out · context {used:,} of {context:,}")
WRITING = to_say(
    "{prompt:,} tokens in · {new:,} out · context {used:,} of {context:,} · {speed:.1f} tokens/s · first "
    "after {first:.2f} s"
)
WRITING_IN_A_CELL = to_say(
    "{prompt:,} tokens in · {new:,} out · context {used:,} of {context:,} · {speed:.1f} tokens/s · first "
    "after {first:.2f} s · a cell is running: Stop may have to wait for its end"
)

# What to say at the end of an answer, by the reason of its end: where the whole conversation was sent, and
# where its oldest turn or turns had to be left out.
ENDINGS = {
    "stop": "",
    "stopped": to_say("Stopped."),
    "length": to_say("Cut off: the number of new tokens is used up."),
}
ENDINGS_WITHOUT_A_TURN = {
    "stop": to_say("Left out to fit the context of {context:,} tokens: the oldest turn."),
    "stopped": to_say("Left out to fit the context of {context:,} tokens: the oldest turn. Stopped."),
    "length": to_say(
        "Left out to fit the context of {context:,} tokens: the oldest turn. Cut off: the number of new "
        "tokens is used up."
    ),
}
ENDINGS_WITHOUT_TURNS = {
    "stop": to_say("Left out to fit the context of {context:,} tokens: the oldest {turns} turns."),
    "stopped": to_say(
        "Left out to fit the context of {context:,} tokens: the oldest {turns} turns. Stopped."
    ),
    "length": to_say(
        "Left out to fit the context of {context:,} tokens: the oldest {turns} turns. Cut off: the number of "
        "new tokens is used up."
    ),
}


def figures(stream, context: int, in_a_cell: bool = False) -> str:
    """The status line of an answer: tokens in and out, how full the context is, tokens per second.

    `in_a_cell`: whether the notebook runs a cell meanwhile.
    """
    sentence = WRITING
    if stream.first_token_seconds is None:
        sentence = READING
    elif in_a_cell:
        sentence = WRITING_IN_A_CELL
    return say(
        sentence,
        prompt=stream.prompt_tokens,
        new=stream.new_tokens,
        used=stream.prompt_tokens + stream.new_tokens,
        context=context,
        speed=stream.tokens_per_second,
        first=stream.first_token_seconds,
    )


def ending(finish_reason: str, dropped: int, context: int) -> str:
    """What to say at the end of an answer; "" for one that is whole.

    `dropped`: how many turns were left out, for a context of `context` tokens.
    """
    endings = ENDINGS
    if dropped == 1:
        endings = ENDINGS_WITHOUT_A_TURN
    elif dropped > 1:
        endings = ENDINGS_WITHOUT_TURNS
    return say(endings[finish_reason], context=context, turns=dropped)


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
        #: How many tokens it has, once it is whole.
        self.new_tokens = 0

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
        self.new_tokens = stream.new_tokens

        # 4. What is known only at the end.
        self.view.show_status(figures(stream, self.context))
        if show_routing and stream.token_ids:
            strip = routing_strip(recorder.routing, self.tokenizer, stream.token_ids[-1])
            self.view.show_answer(self.conversation.answer, strip)
        return ending(stream.finish_reason, dropped, self.context)

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
                    self.view.show_status(figures(stream, self.context, a_cell_is_running()))
        finally:
            if text:
                self.conversation.set_answer(system, text)
            self.view.show_answer(self.conversation.answer)
        return stream
