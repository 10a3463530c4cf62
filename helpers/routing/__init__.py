"""Notebook 06: record which experts a model chooses, and draw it."""

from helpers.routing.recorder import Routing, RoutingRecorder, change_weights, find_routers, token_strip

__all__ = ["Routing", "RoutingRecorder", "change_weights", "find_routers", "token_strip"]
