"""Notebook 02: how much GPU memory a model needs, on which GPU, in which phase.

configs.py      reads the config of a model
ledger.py       notes which tensors are alive on which GPU
kernels.py      stand-ins for the kernels of a GPU
simulation.py   runs a request on a model without bytes
forecasting.py  the forecast
search.py       what fits
command.py      `python -m helpers.vram`
measuring.py    what a real run on a CPU allocates, to compare
timeline.py     the memory of one GPU over time
figures.py      the figures
calculator.py   sliders, and what they make of two cards
"""

from helpers import GIB
from helpers.vram.command import verdict
from helpers.vram.configs import REAL_CONFIG, load_config
from helpers.vram.figures import draw_bars, draw_over_time, draw_placement
from helpers.vram.forecasting import forecast, seconds_to_move
from helpers.vram.measuring import measured_peak, tell_routing, watch_routing
from helpers.vram.search import CARDS, cards, largest, largest_in_memory
from helpers.vram.simulation import meta_model, simulate
from helpers.vram.timeline import memory_over_time

__all__ = [
    "CARDS",
    "GIB",
    "REAL_CONFIG",
    "cards",
    "draw_bars",
    "draw_over_time",
    "draw_placement",
    "forecast",
    "largest",
    "largest_in_memory",
    "load_config",
    "measured_peak",
    "memory_over_time",
    "meta_model",
    "seconds_to_move",
    "simulate",
    "tell_routing",
    "verdict",
    "watch_routing",
]
