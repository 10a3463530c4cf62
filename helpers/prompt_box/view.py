"""The widgets of the prompt box: what a learner sees and presses. Nothing here knows the model."""

import html
import threading
from pathlib import Path

import ipywidgets as widgets

from helpers.compat import keep_in_order
from helpers.language import language, say, to_say
from helpers.prompt_box.languages import labelled
from helpers.prompt_box.page import mimebundle
from helpers.prompt_box.rendering import render
from helpers.prompt_box.text_area import TextArea

NOTE = to_say("The prompt box works only while the notebook runs: run this cell to chat.")
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
# Seconds after an answer at which its last updates are sent again: a page is soon back, a slow one later.
REPEAT_SECONDS = (1.5, 6.0, 24.0)
WAITING = "…"  # in the bubble of an answer until its first words


def make_button(name: str, text: str, colour: str = "") -> widgets.Button:
    """A button as wide as its text; `colour` is one of ipywidgets' button styles, such as "primary".

    `name` is the same in all languages: the page knows the button as `chat-name`.
    """
    button = widgets.Button(description=text, button_style=colour, layout={"width": "auto"})
    return button.add_class(f"chat-{name}")


class View:
    """All widgets of a box: settings, bubbles, a notice, the text area, buttons, a status line.

    The methods only change values of widgets, so any thread may call them.
    """

    def __init__(self, system: str, defaults, context: int):
        """`defaults`: the model's generation settings; `context`: the most tokens that it can read."""
        self.language = language()
        self.note = say(NOTE)
        self.no_answer = say("no answer")
        settings = self._make_settings(system, defaults, context)
        bubbles = self._make_bubbles()
        self.notice = widgets.HTML().add_class("chat-notice")
        self.text_area = TextArea()
        buttons = self._make_buttons()
        self.status = widgets.HTML().add_class("chat-status")
        style = widgets.HTML(f"<style>{STYLE}</style>")
        above = [style, settings, bubbles, self.notice]
        below = [buttons, self.status]
        self.root = widgets.VBox([*above, *self.text_area.parts, *below]).add_class("chat")
        for control in (self.system, *self._sliders, *buttons.children):
            keep_in_order(control)

    def _make_settings(self, system: str, defaults, context: int) -> widgets.Widget:
        """The system prompt and the sliders, folded away; they start at the model's own settings."""
        self.system = widgets.Textarea(system, rows=2, tooltip=say("System prompt"), layout={"width": "auto"})
        most = context // 2  # the other half is for the conversation
        self.new_tokens = widgets.IntSlider(min(512, most), 1, most, description=say("New tokens"))
        temperature = 0.0  # greedy
        if defaults.do_sample:
            temperature = defaults.temperature or 1.0
        self.temperature = widgets.FloatSlider(
            temperature, min=0, max=2, step=0.05, description=say("Temperature")
        )
        self.top_p = widgets.FloatSlider(
            defaults.top_p or 1.0, min=0.05, max=1, step=0.05, description="Top-p"
        )
        self._sliders = [self.new_tokens, self.temperature, self.top_p]
        row = widgets.Box(self._sliders, layout={"flex_flow": "row wrap"})
        return widgets.Accordion([widgets.VBox([self.system, row])], titles=[say("Settings")])

    def _make_bubbles(self) -> widgets.Widget:
        """One widget a bubble, so that a growing answer sends itself and not the whole conversation."""
        self.log = widgets.VBox()
        # Reversed, the scroll position stays at the end while the last bubble grows.
        return widgets.Box([self.log], layout={"flex_flow": "column-reverse"}).add_class("chat-log")

    def _make_buttons(self) -> widgets.Box:
        self.send_button = make_button("send", say("Send"), "primary")
        self.stop_button = make_button("stop", say("Stop"), "warning")
        self.again_button = make_button("regenerate", say("Regenerate"))
        self.clear_button = make_button("clear", say("Clear"))
        self.save_button = make_button("save", say("Save"))
        row = [self.send_button, self.stop_button, self.again_button, self.clear_button, self.save_button]
        return widgets.Box(row, layout={"flex_flow": "row wrap"})

    def mimebundle(self) -> dict:
        """What a notebook displays: the widgets, and a note for pages that have no kernel."""
        return mimebundle(self.root, self.note)

    def generate_options(self) -> dict:
        """The sliders as options of `generate`; temperature 0 always takes the likeliest token."""
        options = {"max_new_tokens": self.new_tokens.value, "do_sample": self.temperature.value > 0}
        if options["do_sample"]:
            options["temperature"] = self.temperature.value
            options["top_p"] = self.top_p.value
        return options

    def show_question(self, text: str) -> None:
        """Two new bubbles: the question, and an answer that has not begun."""
        question = widgets.HTML(labelled(render(text), text, self.language)).add_class("chat-user")
        answer = widgets.HTML(WAITING).add_class("chat-model")
        self.log.children = (*self.log.children, question, answer)

    def show_answer(self, text: str, strip: str = "") -> None:
        """Fill the last bubble; `strip` is HTML to be shown below the text."""
        shown = labelled(render(text), text, self.language)
        if not shown:
            shown = f"<em>{self.no_answer}</em>"
        self.log.children[-1].value = shown + strip

    def clear(self) -> None:
        """Take all bubbles away."""
        self.log.children = ()
        self.status.value = ""
        self.notice.value = ""

    def show_notice(self, sentence: str) -> None:
        """Show a sentence above the text area; "" takes the last one away."""
        self.notice.value = html.escape(sentence)

    def show_status(self, line: str) -> None:
        """Show figures below the buttons."""
        self.status.value = html.escape(line)

    def set_buttons(self, *, can_send: bool, can_stop: bool) -> None:
        """Which buttons can be pressed; Save always can."""
        self.stop_button.disabled = not can_stop
        for button in (self.send_button, self.again_button, self.clear_button):
            button.disabled = not can_send

    def repeat_later(self) -> None:
        """Send the last updates again: a page that is just being reloaded misses some, without a word."""
        for seconds in REPEAT_SECONDS:
            repeat = threading.Timer(seconds, self._repeat)
            repeat.daemon = True
            repeat.start()

    def _repeat(self) -> None:
        buttons = (self.send_button, self.stop_button, self.again_button, self.clear_button)
        for part in (self.log, *self.log.children[-2:], *buttons, self.notice, self.status):
            part.send_state()
