"""Notebook 02: how much GPU memory a model needs, on which GPU, in which phase.

configs.py      reads the config of a model
ledger.py       notes which tensors are alive on which GPU
kernels.py      stand-ins for the kernels of a GPU
simulation.py   runs a request on a model without bytes
forecasting.py  the forecast
search.py       what fits
command.py      `python -m helpers.vram`
measuring.py    what a real run on a CPU allocates, to compare
"""

from helpers import GIB
from helpers.vram.command import verdict
from helpers.vram.configs import REAL_CONFIG, load_config
from helpers.vram.forecasting import forecast, seconds_to_move
from helpers.vram.search import CARDS, cards, largest, largest_in_memory
from helpers.vram.simulation import meta_model, simulate

__all__ = [
    "CARDS",
    "GIB",
    "REAL_CONFIG",
    "cards",
    "forecast",
    "largest",
    "largest_in_memory",
    "load_config",
    "meta_model",
    "seconds_to_move",
    "simulate",
    "verdict",
]
