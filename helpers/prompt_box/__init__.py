"""Notebook 05: a chat with the model inside the notebook."""

from helpers.prompt_box.box import PromptBox
from helpers.prompt_box.conversation import Conversation, fit
from helpers.prompt_box.errors import explain
from helpers.prompt_box.rendering import render
from helpers.prompt_box.routing_strip import routing_strip
from helpers.prompt_box.view import NOTE, View
from helpers.prompt_box.worker import Worker

__all__ = ["NOTE", "Conversation", "PromptBox", "View", "Worker", "explain", "fit", "render", "routing_strip"]
