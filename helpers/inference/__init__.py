"""Notebook 04: choose a model, place it on this machine, load it, and ask it."""

from helpers.inference.chat import ChatStream, encode_chat, stream_chat
from helpers.inference.loading import choose_model, load

__all__ = ["ChatStream", "choose_model", "encode_chat", "load", "stream_chat"]
