"""Notebook 04: place a model on this machine, load it, and ask it. `helpers.choose_model` chooses one."""

from helpers.inference.chat import encode_chat, repair_text
from helpers.inference.loading import load
from helpers.inference.streaming import ChatStream, stream_chat

__all__ = ["ChatStream", "encode_chat", "load", "repair_text", "stream_chat"]
