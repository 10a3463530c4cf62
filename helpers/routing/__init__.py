"""Notebook 06: record which experts a model chooses, and draw it.

routers.py    finds a model's routers, reads and changes what they return
passes.py     one forward pass: its tokens and their places
generating.py  options of generate() with which a recording would be wrong
caches.py     the passes of each KV cache, and which of their tokens stayed in it
columns.py    what is kept of a pass, and of all passes
experiments.py  repeat a measurement with changed weights, as often as the model allows
recorder.py   `RoutingRecorder`: the hooks that keep it while the model runs
table.py      `Routing`: the recording, as arrays, as a table, as a file
figures.py    figures of plain arrays and tables
explorer.py   a widget to look at the experts of any text
"""

from helpers.routing.experiments import busiest_experts, measure_changes, passes_for
from helpers.routing.explorer import Explorer
from helpers.routing.recorder import RoutingRecorder
from helpers.routing.routers import change_weights, find_routers
from helpers.routing.table import Routing, token_labels, token_strip

__all__ = [
    "Explorer",
    "Routing",
    "RoutingRecorder",
    "busiest_experts",
    "change_weights",
    "find_routers",
    "measure_changes",
    "passes_for",
    "token_labels",
    "token_strip",
]
