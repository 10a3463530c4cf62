"""Notebook 05: a chat with the model inside the notebook.

box.py            `PromptBox`: what each button does
worker.py         one thread at a time, and the flag that stops it
answer.py         one answer, from the conversation to the last bubble
conversation.py   what was said, and how much of it the model can still read
view.py           the widgets
page.py           widgets in a page, and the note for pages without a kernel
text_area.py      the text area; send.js is its Enter key
rendering.py      a text as HTML that can do nothing
languages.py      which language a text is in, for screen readers
routing_strip.py  the tokens of an answer in the colours of their experts
errors.py         what to tell a learner when the model fails
style.css         the look
"""

from helpers.prompt_box.box import PromptBox
from helpers.prompt_box.conversation import Conversation, fit
from helpers.prompt_box.errors import explain
from helpers.prompt_box.page import show
from helpers.prompt_box.rendering import render
from helpers.prompt_box.routing_strip import routing_strip
from helpers.prompt_box.view import NOTE, View
from helpers.prompt_box.worker import Worker

__all__ = [
    "NOTE",
    "Conversation",
    "PromptBox",
    "View",
    "Worker",
    "explain",
    "fit",
    "render",
    "routing_strip",
    "show",
]
