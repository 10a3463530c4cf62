"""Notebook 02: how much GPU memory a model needs, on which GPU, in which phase."""

from helpers.vram.forecasting import (
    CARDS,
    GIB,
    REAL_CONFIG,
    cards,
    forecast,
    largest,
    load_config,
    seconds_to_move,
)

__all__ = ["CARDS", "GIB", "REAL_CONFIG", "cards", "forecast", "largest", "load_config", "seconds_to_move"]
