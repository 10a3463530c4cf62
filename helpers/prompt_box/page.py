"""Widgets in the page of a notebook, and what stands there where no kernel runs."""

import html

import ipywidgets as widgets
from IPython.display import display

from helpers.language import say, to_say

NOTE = to_say("Widgets: run this cell to see them.")


def mimebundle(widget: widgets.Widget, note: str) -> dict[str, object]:
    """What a notebook displays: `widget`, and the sentence `note` for pages that have no kernel.

    The method with the underscores is the one that IPython asks every object for.
    """
    text = {"text/plain": note, "text/html": f"<em>{html.escape(note)}</em>"}
    return widget._repr_mimebundle_() | text


def show(*parts: widgets.Widget) -> None:
    """Display widgets below each other in the output of the cell, none wider than a phone's page."""
    for part in parts:
        if part.layout.max_width is None:
            part.layout.max_width = "98%"
    display(mimebundle(widgets.VBox(parts), say(NOTE)), raw=True)
