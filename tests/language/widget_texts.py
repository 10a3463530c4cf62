"""Every text that a widget and the widgets in it show, and the English words among them."""

import html
import re

import ipywidgets as widgets

TRAITS = ("description", "tooltip", "placeholder", "value")
LISTS_OF_TEXTS = ("titles", "tooltips")

INVISIBLE = re.compile(r"<style>.*?</style>", re.DOTALL)
HINT = re.compile(r'<[^>]*\btitle="([^"]*)"[^>]*>')  # shown at the pointer: what is left of its tag
TAG = re.compile(r"<[^>]*>")
ENGLISH_WORD = re.compile(r"[A-Za-z]{2,}")


def texts_of(widget: widgets.Widget) -> list[str]:
    """What a reader may see of a widget and of the widgets in it: HTML without its tags, with its hints."""
    found = []
    for trait in TRAITS:
        text = getattr(widget, trait, None)
        if isinstance(text, str):
            found.append(text)
    for trait in LISTS_OF_TEXTS:
        found += getattr(widget, trait, None) or ()
    for child in getattr(widget, "children", ()):
        found += texts_of(child)
    shown = []
    for text in found:
        without_hints = HINT.sub(r"\1 ", INVISIBLE.sub("", text))
        shown.append(html.unescape(TAG.sub(" ", without_hints)).strip())
    return [text for text in shown if text]


def english_words(texts: list[str], allowed: set[str]) -> list[str]:
    """The English words in these texts, except names and signs that Chinese uses as well."""
    words = []
    for text in texts:
        words += ENGLISH_WORD.findall(text)
    return [word for word in words if word not in allowed]
