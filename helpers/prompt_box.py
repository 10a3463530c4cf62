"""A chat with the model inside the notebook: `PromptBox(model, tokenizer)` as the last line of a cell.

`Conversation` is what was said, as plain data; `render` turns unchecked text into harmless HTML; `PromptBox` is
the widgets, and the thread that fills the last bubble.

Send is a button, not the Enter key: ipywidgets reports no Enter in a text area. Guessing it from the text takes
a message for every key, and a click overtakes them: while a cell runs, only the first letter would be sent. So
the text travels as a whole when the area loses the focus, which also leaves Chinese input methods alone.
"""

import gc
import html
import itertools
import json
import re
import threading
import time
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import ipywidgets as widgets
from IPython import get_ipython

from helpers import CourseError
from helpers.inference import encode_chat, stream_chat

REFRESH_SECONDS = 0.1  # a refresh sends two messages to the browser: the last bubble and the status line
NOTE = "The prompt box works only while the notebook runs: run this cell to chat."
ENDINGS = {"stop": "", "stopped": "Stopped.", "length": "Cut off: the number of new tokens is used up."}
STYLE = """<style>
.chat { border: 1px solid var(--jp-border-color2, #ccc); border-radius: 8px; padding: 10px; max-width: 860px }
.chat .widget-html { height: auto } .chat .widget-html-content { line-height: 1.5 }
.chat-log { max-height: 420px; overflow-y: auto } .chat-strip { font-size: 0.9em }
.chat-user, .chat-model { max-width: 85%; padding: 6px 12px; border-radius: 12px; align-self: flex-start;
  background: var(--jp-layout-color2, #eee); overflow-wrap: anywhere }
.chat-user { background: var(--jp-brand-color3, #bbdefb); align-self: flex-end }
.chat pre { margin: 6px 0; padding: 8px; overflow-x: auto; background: var(--jp-layout-color0, #fff) }
.chat-notice { color: var(--jp-warn-color0, #a60) } .chat-status { color: var(--jp-ui-font-color2, #666) }
</style>"""


@dataclass(eq=False)  # two turns with the same words are two turns
class Turn:
    """A question and its answer; None when there is none: an error, or stopped before the first token."""

    question: str
    answer: str | None = None


@dataclass
class Conversation:
    """What was said: a system prompt and turns."""

    system: str
    turns: list[Turn] = field(default_factory=list)

    def messages(self, turns: list[Turn] | None = None) -> list[dict[str, str]]:
        """The system prompt and `turns` (default: all) in the form that chat templates take."""
        messages = [{"role": "system", "content": self.system}]
        for turn in self.turns if turns is None else turns:
            messages.append({"role": "user", "content": turn.question})
            if turn.answer is not None:
                messages.append({"role": "assistant", "content": turn.answer})
        return messages

    def prompt(self, turn: Turn, tokenizer, limit: int) -> tuple[list[dict[str, str]], int]:
        """Messages that ask for the answer to `turn`, and how many of the oldest turns were left out to stay
        within `limit` tokens. Raises CourseError when the question alone is too long."""
        history = [old for old in self.turns if old is not turn and old.answer is not None]
        for dropped in range(len(history) + 1):
            messages = self.messages([*history[dropped:], Turn(turn.question)])
            tokens = encode_chat(tokenizer, messages)["input_ids"].shape[1]
            if tokens <= limit:
                return messages, dropped
        raise CourseError(
            f"Your message makes a prompt of {tokens:,} tokens, but only {limit:,} fit beside the answer: "
            f"shorten it by {tokens - limit:,} tokens, or lower the number of new tokens."
        )

    def save(self, folder: Path) -> Path:
        """Write the messages to a new JSON file in `folder`, never over an old one, and return its path."""
        paths = (folder / f"conversation-{number:03d}.json" for number in itertools.count(1))
        path = next(path for path in paths if not path.exists())
        with path.open("x", encoding="utf-8") as file:
            json.dump(self.messages(), file, ensure_ascii=False, indent=2)
        return path


# A fence that is not closed runs to the end: the rest of the code is still being generated.
FENCE, CODE = r"```[^\n`]*\n(?P<fence>.*?)(?:\n?```\n?|\Z)", r"`(?P<code>[^`\n]+)`"
BOLD, LINE = r"\*\*(?=\S)(?P<bold>[^*\n]+)(?<=\S)\*\*", r"(?P<line>\n)"
MARKUP = re.compile("|".join((FENCE, CODE, BOLD, LINE)), re.DOTALL)
TAGS = {"fence": "<pre><code>{}</code></pre>", "code": "<code>{}</code>", "bold": "<b>{}</b>", "line": "<br>"}


def render(text: str) -> str:
    """HTML of a text: code fences, inline code, bold, line breaks. All else is escaped and shows as typed."""
    return MARKUP.sub(lambda m: TAGS[m.lastgroup].format(m[m.lastgroup]), html.escape(text))


def explain(error: Exception) -> str:
    """One sentence: what went wrong, and what to do."""
    if isinstance(error, CourseError):
        return str(error)
    if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error)):
        return "The memory ran out: press Clear, or lower the number of new tokens, and send again."
    what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return f"The model failed ({what}): press Regenerate, or restart the kernel if it fails again."


def release_memory() -> None:
    """Free what an error held on to; call it outside the except block."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def routing_strip(routing, tokenizer) -> str:
    """HTML: the tokens of an answer, coloured by their first expert in the last layer of a `Routing`."""
    spans = []
    for token, (expert, *_) in zip(routing.token_id, routing.experts[:, -1].tolist(), strict=True):
        style = f"background: hsl({360 * expert // routing.num_experts}, 70%, 80%); color: #222"
        text = html.escape(tokenizer.decode([int(token)]))
        spans.append(f'<span title="expert {expert}" style="{style}">{text}</span>')
    answer = itertools.compress(spans, routing.decode)
    return f"First expert of each token in layer {routing.layers[-1]}: {''.join(answer)}"


class PromptBox:
    """Chat with `model`, starting from the system prompt `system`. A second box closes the first.

    Conversations are saved in `folder`. `show_routing` shows under each answer the experts of its tokens.
    The sliders start at the model's own generation settings; temperature 0 always takes the likeliest token.
    In code: `box.entry.value = "Hello"; box.send_button.click(); box.wait(); box.conversation.messages()`.
    """

    newest = staticmethod(lambda: None)  # a weak reference to the box that was made last

    def __init__(self, model, tokenizer, system="You are a helpful assistant.", *, folder=".", show_routing=False):
        if previous := PromptBox.newest():
            previous.close()
        PromptBox.newest = weakref.ref(self)
        self.model, self.tokenizer, self.show_routing = model, tokenizer, show_routing
        self.conversation, self.folder = Conversation(system), Path(folder)
        self.context = model.config.max_position_embeddings
        self._busy, self._stop, self._thread = threading.Lock(), threading.Event(), None
        self._build(model.generation_config)
        self._set_busy(False)

    def _build(self, defaults) -> None:
        def button(text, action, style=""):
            made = widgets.Button(description=text, button_style=style, layout={"width": "auto"})
            made.on_click(lambda _: action())
            return made.add_class(f"chat-{text.lower()}")

        def slider(kind, text, value, low, high, step):
            return kind(value, description=text, min=low, max=high, step=step, continuous_update=False)

        wide, wrap, most = {"width": "auto"}, {"flex_flow": "row wrap"}, self.context // 2
        heat = (defaults.temperature or 1.0) if defaults.do_sample else 0.0
        self.system = widgets.Textarea(self.conversation.system, rows=2, layout=wide, tooltip="System prompt")
        self.new_tokens = slider(widgets.IntSlider, "New tokens", min(512, most), 1, most, 1)
        self.temperature = slider(widgets.FloatSlider, "Temperature", heat, 0, 2, 0.05)
        self.top_p = slider(widgets.FloatSlider, "Top-p", defaults.top_p or 1, 0.05, 1, 0.05)
        sliders = widgets.Box([self.new_tokens, self.temperature, self.top_p], layout=wrap)
        settings = widgets.Accordion([widgets.VBox([self.system, sliders])])
        settings.set_title(0, "System prompt and sampling")
        self.log = widgets.VBox()
        # Reversed, the scroll position stays at the end while the last bubble grows.
        scroll = widgets.Box([self.log], layout={"flex_flow": "column-reverse"}).add_class("chat-log")
        self.notice, self.status = (widgets.HTML().add_class(name) for name in ("chat-notice", "chat-status"))
        self.entry = widgets.Textarea(rows=3, layout=wide, continuous_update=False, tooltip="Your message")
        self.entry.placeholder = "Type a message, then click Send, or press Tab and then Space."
        self.send_button = button("Send", self._start, "primary")
        self.stop_button = button("Stop", self._ask_to_stop, "warning")
        self.again_button = button("Regenerate", lambda: self._start(again=True))
        self.clear_button, self.save_button = button("Clear", self._clear), button("Save", self._save)
        self._buttons = [self.send_button, self.again_button, self.clear_button, self.save_button]
        row = widgets.Box([self.send_button, self.stop_button, *self._buttons[1:]], layout=wrap)
        parts = [widgets.HTML(STYLE), settings, scroll, self.notice, self.entry, row, self.status]
        self.view = widgets.VBox(parts).add_class("chat")

    def _repr_mimebundle_(self, **_):
        """The live box; where no kernel runs, a note."""
        return self.view._repr_mimebundle_() | {"text/plain": NOTE, "text/html": f"<em>{NOTE}</em>"}

    def _set_busy(self, busy: bool) -> None:
        self.stop_button.disabled = not busy
        self.send_button.disabled = busy or self.model is None
        self.clear_button.disabled = self.save_button.disabled = busy or not self.conversation.turns
        self.again_button.disabled = self.send_button.disabled or self.clear_button.disabled

    def _say(self, *sentences: str) -> None:
        self.notice.value = html.escape(" ".join(filter(None, sentences)))

    def _ask_to_stop(self) -> None:
        self._stop.set()
        self._say("Stopping after the token that is being computed.")

    def _clear(self) -> None:
        self.conversation.turns, self.log.children, self.status.value = [], (), ""
        self._say()
        self._set_busy(False)

    def _save(self) -> None:
        try:
            self._say(f"Saved as {self.conversation.save(self.folder).name}.")
        except OSError as error:
            self._say(f"Not saved ({error.strerror}): free some space, or give PromptBox another folder.")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the answer; False after `timeout` seconds. Interrupting the kernel stops it."""
        try:
            if self._thread:
                self._thread.join(timeout)
        except KeyboardInterrupt:
            self._stop.set()
            raise
        return not self._busy.locked()

    def close(self) -> None:
        """Stop, and let go of the model so that its memory can be freed. What was said stays readable."""
        self._stop.set()
        self.wait(timeout=10)
        self.model = None
        self._set_busy(False)
        self._say("This box is closed: run its cell again for a new one.")

    def _start(self, again: bool = False) -> None:
        text = self.entry.value.strip().encode("utf-8", "replace").decode()  # no half surrogate pairs
        turn = self.conversation.turns[-1] if again else Turn(text)
        if not turn.question or self.model is None or not self._busy.acquire(blocking=False):
            return  # nothing to send, or one answer runs: a double click calls twice
        self._stop.clear()
        self._set_busy(True)
        self._say()
        self._thread = threading.Thread(target=self._work, args=(turn, self.model), daemon=True)
        self._thread.start()

    def _work(self, turn: Turn, model) -> None:
        """The thread. Whatever happens, the box works again afterwards."""
        problem = ""
        try:
            self._say(*self._answer(turn, model))
        except Exception as error:  # nobody would see the traceback of a thread
            problem = explain(error)
        if problem:
            release_memory()
            self._say(problem)
        self._set_busy(False)
        self._busy.release()

    def _answer(self, turn: Turn, model) -> tuple[str, str]:
        """Fill the turn's bubble while the model generates; returns what to say at the end."""
        length, text, shown, recorder = self.new_tokens.value, "", 0.0, nullcontext()
        self.conversation.system = self.system.value
        prompt, dropped = self.conversation.prompt(turn, self.tokenizer, self.context - length)
        bubble, strip = self._bubbles(turn)
        options = {"max_new_tokens": length, "do_sample": False}
        if self.temperature.value > 0:
            options |= {"do_sample": True, "temperature": self.temperature.value, "top_p": self.top_p.value}
        if self.show_routing:
            from helpers.routing import RoutingRecorder

            recorder = RoutingRecorder(model)
        try:
            with recorder:
                stream = stream_chat(model, self.tokenizer, prompt, stop=self._stop, **options)
                for piece in stream:
                    text += piece
                    if time.monotonic() - shown >= REFRESH_SECONDS:
                        bubble.value, shown = render(text), time.monotonic()
                        self._report(stream)
            if stream.finish_reason == "stop":
                turn.answer = text
        finally:
            turn.answer = text or turn.answer
            bubble.value = render(turn.answer or "") or "<em>no answer</em>"
        self._report(stream, done=True)
        if self.show_routing:
            strip.value = routing_strip(recorder.routing, self.tokenizer)
        note = f"Left out to fit the context of {self.context:,} tokens: the oldest {dropped} turns."
        return note if dropped else "", ENDINGS[stream.finish_reason]

    def _bubbles(self, turn: Turn) -> tuple[widgets.HTML, widgets.HTML]:
        """The bubble for the answer, and the strip below it; a new turn moves from the text area into the log."""
        if turn not in self.conversation.turns:
            self.conversation.turns.append(turn)
            new = [widgets.HTML().add_class(f"chat-{name}") for name in ("user", "model", "strip")]
            new[0].value = render(turn.question)
            self.log.children += (widgets.VBox(new),)
            self.entry.value = ""
            self.entry.focus()
        _, bubble, strip = self.log.children[-1].children
        bubble.value, strip.value = "…", ""
        return bubble, strip

    def _report(self, stream, done: bool = False) -> None:
        used, shell = stream.prompt_tokens + stream.new_tokens, get_ipython()
        waits = not done and shell and shell.display_trap.is_active
        self.status.value = (
            f"{stream.prompt_tokens:,} tokens in · {stream.new_tokens:,} out · {stream.tokens_per_second:.1f} "
            f"tokens/s · first after {stream.first_token_seconds or 0:.2f} s · context {used:,} of "
            f"{self.context:,}{' · a cell is running: Stop may have to wait for its end' if waits else ''}"
        )
