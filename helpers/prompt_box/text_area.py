"""The text area of the prompt box, and the Enter key where the page can tell the kernel about it.

ipywidgets reports no Enter in a text area. To guess it from the text, each key would have to send the text to
the kernel; while a cell runs, these messages pile up, and a click overtakes them: half a text is sent.

So the text travels once, when the area loses the focus, as it does by a click on Send. And an invisible
widget with some JavaScript (`enter.js`) watches the area: at Enter it sends the whole text in one message. It
needs the package anywidget in the kernel, and its extension in the server of the page. Without them the only
difference is that Enter makes a new line.
"""

from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from helpers.compat import keep_in_order

try:
    import anywidget
except ImportError:  # an environment that was made before the course used it
    anywidget = None

ENTER_SCRIPT = Path(__file__).with_name("enter.js").read_text(encoding="utf-8")
WITH_BUTTON = "Type a message, then click Send, or press Tab and then Space."
WITH_ENTER = "Type a message and press Enter. Shift+Enter begins a new line."


class TextArea:
    """The text area. A text leaves it only when the box says that it has become a question."""

    def __init__(self):
        self.widget = widgets.Textarea(
            rows=3,
            continuous_update=False,  # the text travels once, when the area loses the focus
            tooltip="Your message",
            placeholder=WITH_BUTTON,
            layout={"width": "auto"},
        ).add_class("chat-entry")
        keep_in_order(self.widget)
        #: All widgets, to be put into the page.
        self.parts: list[widgets.Widget] = [self.widget]
        self._enter_key = None  # the invisible widget
        self._on_enter: Callable[[str], None] | None = None
        if anywidget is not None:
            self._add_enter_key()

    def _add_enter_key(self) -> None:
        self._enter_key = anywidget.AnyWidget(_esm=ENTER_SCRIPT)
        self._enter_key.on_msg(self._receive)
        keep_in_order(self._enter_key)
        # Not shown: where its extension is missing, JupyterLab would show an error in its place.
        self.parts.append(widgets.Box([self._enter_key], layout={"display": "none"}))

    def on_enter(self, callback: Callable[[str], None]) -> None:
        """Call `callback(text)` when Enter is pressed, which has to end in a call of `answer_enter`."""
        self._on_enter = callback

    def _receive(self, widget, message: dict, buffers) -> None:
        """What `enter.js` sends: first that it is there, then a text for each Enter."""
        if "ready" in message:
            self.widget.placeholder = WITH_ENTER
        if "text" in message:
            self._on_enter(message["text"])

    def answer_enter(self, taken: bool) -> None:
        """Say whether the text that Enter sent has become a question; the page then takes it away itself.

        The text area may hold more by now, which only the page knows.
        """
        self._enter_key.send({"taken": taken})

    def answer_click(self, taken: bool) -> None:
        """The same for a click on Send."""
        if taken:
            self.widget.value = ""
            self.widget.focus()
