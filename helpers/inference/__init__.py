"""Notebook 04: place a model on this machine, load it, and ask it. `helpers.choose_model` chooses one."""

from helpers.inference.chat import encode_chat, takes_system_message
from helpers.inference.loading import load
from helpers.inference.messages import repair_text
from helpers.inference.placement import check_placement
from helpers.inference.prefix import KeptPrefix
from helpers.inference.streaming import ChatStream, context_tokens, stream_chat

__all__ = [
    "ChatStream",
    "KeptPrefix",
    "check_placement",
    "context_tokens",
    "encode_chat",
    "load",
    "repair_text",
    "stream_chat",
    "takes_system_message",
]
