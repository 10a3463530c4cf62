"""The text area of the prompt box, and the Enter key where the page can report it.

ipywidgets reports no Enter in a text area. To guess it from the text, each key would have to send the text to
the kernel; while a cell runs, these messages pile up, and a click overtakes them: half a text is sent.

So the text travels once, when the area loses the focus, as it does by a click on Send. And some JavaScript in
an invisible output (`enter.js`) watches the area: at Enter it sends the whole text in one message. In a page
that runs no JavaScript of outputs, Enter makes a new line, and only the button sends.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ipywidgets as widgets

from helpers.compat import keep_in_order

ENTER_SCRIPT = Path(__file__).with_name("enter.js").read_text(encoding="utf-8")
HINT = "Type a message, then click Send, or press Tab and then Space."  # enter.js puts another in its place

Reply = Callable[[bool], None]  # says whether a text has become a question


class TextArea:
    """The text area. A text leaves it only when the box says that it has become a question."""

    def __init__(self):
        self.widget = widgets.Textarea(
            rows=3,
            continuous_update=False,  # the text travels once, when the area loses the focus
            tooltip="Your message",
            placeholder=HINT,
            layout={"width": "auto"},
        ).add_class("chat-entry")
        # What enter.js writes to the kernel, and what the kernel answers.
        self._outbox = widgets.Textarea(continuous_update=False).add_class("chat-outbox")
        self._inbox = widgets.HTML().add_class("chat-inbox")
        script = {"application/javascript": ENTER_SCRIPT}
        output = widgets.Output(outputs=[{"output_type": "display_data", "data": script, "metadata": {}}])
        invisible = widgets.Box([self._outbox, self._inbox, output], layout={"display": "none"})
        #: All widgets, to be put into the page.
        self.parts = [self.widget, invisible]
        for reporting in (self.widget, self._outbox):
            keep_in_order(reporting)

    def on_enter(self, callback: Callable[[str, Reply], None]) -> None:
        """Call `callback(text, reply)` when Enter is pressed; it has to see to it that `reply` is called."""

        def receive(change) -> None:
            message = json.loads(change.new)
            callback(message["text"], partial(self._answer_enter, message["id"]))

        self._outbox.observe(receive, "value")

    def _answer_enter(self, number: int, taken: bool) -> None:
        """Answer a message of enter.js. It takes the text away itself: only the page knows what was added."""
        self._inbox.value = json.dumps({"id": int(number), "taken": taken})

    def answer_click(self, taken: bool) -> None:
        """Empty the text area if the text that Send has read has become a question."""
        if taken:
            self.widget.value = ""
            self.widget.focus()
