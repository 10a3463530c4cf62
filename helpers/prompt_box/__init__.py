"""Notebook 05: a chat with the model inside the notebook."""

from helpers.prompt_box.box import NOTE, PromptBox, explain, fit
from helpers.prompt_box.rendering import render, routing_strip

__all__ = ["NOTE", "PromptBox", "explain", "fit", "render", "routing_strip"]
