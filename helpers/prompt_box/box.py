"""A chat with the model inside the notebook: `PromptBox(model, tokenizer)` as the last line of a cell.

Send is a button, not the Enter key: ipywidgets reports no Enter in a text area. To guess it from the text,
each key must send it to the kernel; while a cell runs, a click overtakes that: half a text is sent. So the
text travels once, when the area loses the focus. This also leaves Chinese input methods alone.
"""

import html
import itertools
import json
import re
import threading
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import ipywidgets as widgets
import torch
from IPython import get_ipython

from helpers import CourseError
from helpers.inference.chat import encode_chat, stream_chat
from helpers.prompt_box.rendering import STYLE, render, routing_strip

REFRESH_SECONDS = 0.1  # a refresh sends two messages to the browser: the last bubble and the status line
REPEAT_SECONDS = 1.5
SYSTEM = "You are a helpful assistant."
NOTE = "The prompt box works only while the notebook runs: run this cell to chat."
ENDINGS = {"stop": "", "stopped": "Stopped.", "length": "Cut off: the number of new tokens is used up."}


def fit(messages: list[dict[str, str]], tokenizer, limit: int) -> tuple[list[dict[str, str]], int]:
    """Leave out the oldest turns until at most `limit` tokens are left; also returns how many turns went.

    `messages`: system prompt, pairs of question and answer, a question. CourseError if that is too long.
    """
    for dropped in range(len(messages) // 2):
        kept = messages[:1] + messages[1 + 2 * dropped :]
        tokens = encode_chat(tokenizer, kept)["input_ids"].shape[1]
        if tokens <= limit:
            return kept, dropped
    raise CourseError(
        f"Your message makes a prompt of {tokens:,} tokens, but only {limit:,} fit beside the answer: "
        f"shorten it by {tokens - limit:,} tokens, or lower the number of new tokens."
    )


def explain(error: Exception) -> str:
    """One sentence: what went wrong, and what to do."""
    if isinstance(error, CourseError):
        return str(error)
    if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error)):
        return "The memory ran out: press Clear, or lower the number of new tokens, and send again."
    what = f"{type(error).__name__}: {error}".split("\n")[0][:200]
    return f"The model failed ({what}): press Regenerate, or restart the kernel if it fails again."


def keep_in_order(*controls: widgets.Widget) -> None:
    """Let the kernel handle what these widgets report in the subshell (a thread) that the page names.

    ipykernel 7.4 hands it to the subshell that last updated the widget instead: a click then overtakes the
    text that it is meant for, or goes to a subshell that ended when the page was reloaded, and is lost.
    """
    for control in controls:
        control.comm._reply_subshell_for = lambda data, subshell: subshell


class PromptBox:
    """Chat with `model`, starting from the system prompt `system`. A second box closes the first.

    Conversations are saved in `folder`; `show_routing` shows under each answer the experts of its tokens. The
    sliders start at the model's own generation settings; temperature 0 always takes the likeliest token.
    In code: `box.entry.value = "Hello"; box.send_button.click(); box.wait(); box.messages`.
    """

    newest: "PromptBox | None" = None

    def __init__(self, model, tokenizer, system=SYSTEM, folder=".", show_routing=False):
        if PromptBox.newest:
            PromptBox.newest.close()
        PromptBox.newest = self
        self.model, self.tokenizer, self.show_routing = model, tokenizer, show_routing
        self.messages, self.folder = [{"role": "system", "content": system}], Path(folder)
        self._question: dict[str, str] | None = None  # the last one, also if it got no answer
        self.context = model.config.max_position_embeddings
        self._busy, self._stop, self._thread = threading.Lock(), threading.Event(), None
        self._build(system, model.generation_config)
        self._set_busy(False)

    def _build(self, system: str, defaults) -> None:
        def button(text, action, style=""):
            made = widgets.Button(description=text, button_style=style, layout={"width": "auto"})
            made.on_click(lambda _: action())
            return made.add_class(f"chat-{text.lower()}")

        wide, wrap, most = {"width": "auto"}, {"flex_flow": "row wrap"}, self.context // 2
        heat = (defaults.temperature or 1.0) if defaults.do_sample else 0.0
        self.system = widgets.Textarea(system, rows=2, layout=wide, tooltip="System prompt")
        self.new_tokens = widgets.IntSlider(min(512, most), 1, most, description="New tokens")
        self.temperature = widgets.FloatSlider(heat, min=0, max=2, step=0.05, description="Temperature")
        self.top_p = widgets.FloatSlider(defaults.top_p or 1, min=0.05, max=1, step=0.05, description="Top-p")
        sliders = widgets.Box([self.new_tokens, self.temperature, self.top_p], layout=wrap)
        settings = widgets.Accordion([widgets.VBox([self.system, sliders])], titles=["Settings"])
        self.log = widgets.VBox()
        # Reversed, the scroll position stays at the end while the last bubble grows.
        scroll = widgets.Box([self.log], layout={"flex_flow": "column-reverse"}).add_class("chat-log")
        self.notice, self.status = (widgets.HTML().add_class(f"chat-{n}") for n in ("notice", "status"))
        self.entry = widgets.Textarea(rows=3, layout=wide, continuous_update=False, tooltip="Your message")
        self.entry.placeholder = "Type a message, then click Send, or press Tab and then Space."
        self.send_button = button("Send", self._start, "primary")
        self.stop_button = button("Stop", self._ask_to_stop, "warning")
        self.again_button = button("Regenerate", lambda: self._start(again=True))
        self.clear_button, self.save_button = button("Clear", self._clear), button("Save", self._save)
        row = [self.send_button, self.stop_button, self.again_button, self.clear_button, self.save_button]
        parts = [settings, scroll, self.notice, self.entry, widgets.Box(row, layout=wrap), self.status]
        keep_in_order(*row, self.entry, self.system, *sliders.children)
        self.view = widgets.VBox([widgets.HTML(STYLE), *parts]).add_class("chat")

    def _repr_mimebundle_(self, **_):
        return self.view._repr_mimebundle_() | {"text/plain": NOTE, "text/html": f"<em>{NOTE}</em>"}

    def _set_busy(self, busy: bool, sentence: str = "") -> None:
        self.notice.value = html.escape(sentence)  # first: who sees the buttons change can read why
        self.stop_button.disabled = not busy
        for button in (self.send_button, self.again_button, self.clear_button):
            button.disabled = busy or self.model is None

    def _ask_to_stop(self) -> None:
        self._stop.set()
        self.notice.value = "Stopping after the token that is being computed."

    def _clear(self) -> None:
        if not self._busy.locked():  # a click that came too late for the disabled button
            self.messages, self._question, self.log.children = self.messages[:1], None, ()
            self.status.value = self.notice.value = ""

    def _save(self) -> None:
        paths = (self.folder / f"conversation-{number:03d}.json" for number in itertools.count(1))
        path = next(path for path in paths if not path.exists())
        try:
            with path.open("x", encoding="utf-8") as file:  # "x" never overwrites
                json.dump(self.messages, file, ensure_ascii=False, indent=2)
            self.notice.value = f"Saved as {path.name}."
        except OSError as error:
            self.notice.value = f"Not saved ({error.strerror}): free some space, or choose another folder."

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
        self._set_busy(False, "This box is closed: run its cell again for a new one.")

    def _start(self, again: bool = False) -> None:
        text = self.entry.value.strip().encode("utf-8", "replace").decode()  # no half surrogate pairs
        question = self._question if again else text and {"role": "user", "content": text}
        if not question or self.model is None or not self._busy.acquire(blocking=False):
            return  # nothing to send, or an answer is being written: a double click calls twice
        self._stop.clear()
        self._set_busy(True)
        self._thread = threading.Thread(target=self._work, args=(question, self.model), daemon=True)
        self._thread.start()

    def _work(self, question: dict[str, str], model) -> None:
        """The thread. Whatever happens, the box works again afterwards."""
        try:
            ending = self._answer(question, model)
        except Exception as error:  # nobody would see the traceback of a thread
            ending = explain(error)
            traceback.clear_frames(error.__traceback__)  # they hold on to tensors
            torch.cuda.empty_cache()
        self._set_busy(False, ending)
        self._busy.release()
        again = threading.Timer(REPEAT_SECONDS, self._repeat)
        again.daemon = True
        again.start()

    def _repeat(self) -> None:
        """Say the last updates once more: a page that is just being reloaded misses some, without a word."""
        buttons = (self.send_button, self.stop_button, self.again_button, self.clear_button)
        for part in (self.log, *self.log.children[-2:], *buttons, self.notice, self.status):
            part.send_state()

    def _answer(self, question: dict[str, str], model) -> str:
        """Fill the bubble of the answer while the model generates; returns what to say at the end."""
        length, text, old, shown, recorder = self.new_tokens.value, "", "", 0.0, nullcontext()
        history, system = self.messages[1:], {"role": "system", "content": self.system.value}
        if history and history[-2] is question:  # Regenerate: the old answer stays if there is no new one
            history, old = history[:-2], history[-1]["content"]
        prompt, dropped = fit([system, *history, question], self.tokenizer, self.context - length)
        if question is not self._question:
            asked, answer = widgets.HTML(render(question["content"])), widgets.HTML("…")
            self.log.children += (asked.add_class("chat-user"), answer.add_class("chat-model"))
            self._question, self.entry.value = question, ""
            self.entry.focus()
        bubble = self.log.children[-1]
        options = {"max_new_tokens": length, "do_sample": self.temperature.value > 0}
        if options["do_sample"]:
            options |= {"temperature": self.temperature.value, "top_p": self.top_p.value}
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
        finally:
            if text:
                self.messages = [system, *history, question, {"role": "assistant", "content": text}]
            bubble.value = render(text or old) or "<em>no answer</em>"
        self._report(stream, done=True)
        if self.show_routing:
            bubble.value += routing_strip(recorder.routing, self.tokenizer)
        note = f"Left out to fit the context of {self.context:,} tokens: the oldest {dropped} turns. "
        return note * bool(dropped) + ENDINGS[stream.finish_reason]

    def _report(self, stream, done: bool = False) -> None:
        fed, new, first = stream.prompt_tokens, stream.new_tokens, stream.first_token_seconds
        figures = f"{fed:,} tokens in · {new:,} out · context {fed + new:,} of {self.context:,}"
        if first is not None:
            figures += f" · {stream.tokens_per_second:.1f} tokens/s · first after {first:.2f} s"
        if not done and (shell := get_ipython()) and shell.display_trap.is_active:
            figures += " · a cell is running: Stop may have to wait for its end"
        self.status.value = figures
