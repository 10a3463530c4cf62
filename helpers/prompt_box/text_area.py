"""The text area of the prompt box, and how its text gets to the kernel whole.

ipywidgets reports no Enter in a text area, and it sends the text of the area in one message and the click on
a button in another: while a cell runs, the first may have to wait, and a click that overtakes it finds an old
text.

So some JavaScript in an invisible output (`send.js`) watches the area and the button Send: at Enter and at a
click it sends the whole text in one message. A page that runs no JavaScript of outputs sends text and click
apart, the text when the area loses the focus; there, Enter makes a new line.

The same script tells a screen reader what it cannot know from ipywidgets: the language of the box, and the
names of its parts.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ipywidgets as widgets

from helpers.compat import keep_in_order
from helpers.language import HTML_NAMES, language, say, to_say

SEND_SCRIPT = Path(__file__).with_name("send.js").read_text(encoding="utf-8")
# In the empty area. send.js, where it runs, puts the second in the place of the first.
HINT = to_say("Type a message, then click Send, or press Tab and then Space.")
HINT_OF_SCRIPT = to_say("Type a message and press Enter. Shift+Enter begins a new line.")

Reply = Callable[[bool], None]  # says whether a text has become a question


def send_script() -> str:
    """send.js, with the texts that it puts into the page, in the language that the course speaks now."""
    texts = {
        "language": HTML_NAMES[language()],
        "hint": say(HINT_OF_SCRIPT),
        "box": say("Chat with the model"),
        "log": say("Conversation"),
    }
    return f"{{\nconst TEXTS = {json.dumps(texts)};\n{SEND_SCRIPT}}}\n"


class TextArea:
    """The text area. A text leaves it only when the box says that it has become a question."""

    def __init__(self):
        self.widget = widgets.Textarea(
            rows=3,
            continuous_update=False,  # the text travels when the area loses the focus, not with each key
            tooltip=say("Your message"),
            placeholder=say(HINT),
            layout={"width": "auto"},
        ).add_class("chat-entry")
        # What send.js writes to the kernel, and what the kernel answers.
        self._outbox = widgets.Textarea(continuous_update=False).add_class("chat-outbox")
        self._inbox = widgets.HTML().add_class("chat-inbox")
        script = {"application/javascript": send_script()}
        output = widgets.Output(outputs=[{"output_type": "display_data", "data": script, "metadata": {}}])
        invisible = widgets.Box([self._outbox, self._inbox, output], layout={"display": "none"})
        #: All widgets, to be put into the page.
        self.parts = [self.widget, invisible]
        for reporting in (self.widget, self._outbox):
            keep_in_order(reporting)

    def on_send(self, callback: Callable[[str, Reply], None]) -> None:
        """Call `callback(text, reply)` for each text from send.js, which waits until `reply` is called."""

        def receive(change) -> None:
            message = json.loads(change.new)
            callback(message["text"], partial(self._answer_page, message["id"]))

        self._outbox.observe(receive, "value")

    def _answer_page(self, number: int, taken: bool) -> None:
        """Answer a message of send.js. It takes the text away itself: only the page knows what was added."""
        self._inbox.value = json.dumps({"id": int(number), "taken": taken})

    def answer_click(self, taken: bool) -> None:
        """Empty the text area if the text that a click without send.js has read has become a question."""
        if taken:
            self.widget.value = ""
            self.widget.focus()
