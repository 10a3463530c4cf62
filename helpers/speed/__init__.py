"""Notebook 07: how fast a model answers, how fast its memory would allow, and what lies between.

measuring.py  `measure`: time to the first token, time for each token after it
serving.py    `serve`: an OpenAI-compatible server for a model folder, on this computer only
client.py     `ask` it, alone or with many clients
parallel.py   `share_out`: one model in several processes, on one node or several
roofline.py   the bytes that a token must read, and the limit that the memory sets
profiling.py  where the time of one decode step goes
compiling.py  whether torch.compile can work on this machine
results.py    what the full-size benchmark found on GPUs
"""

from helpers.speed.client import Answer, Load, ask, ask_together
from helpers.speed.compiling import has_compiler, no_compiler
from helpers.speed.failures import LaunchError
from helpers.speed.measuring import Speed, compare, measure
from helpers.speed.parallel import Node, Shared, share_out
from helpers.speed.profiling import profile_step
from helpers.speed.results import draw_results, result_sentences, result_table
from helpers.speed.roofline import CARDS, WeightBytes, expected_experts, read_bandwidth, weight_bytes
from helpers.speed.serving import Server, serve
from helpers.speed.ways import WAYS

__all__ = [
    "CARDS",
    "WAYS",
    "Answer",
    "LaunchError",
    "Load",
    "Node",
    "Server",
    "Shared",
    "Speed",
    "WeightBytes",
    "ask",
    "ask_together",
    "compare",
    "draw_results",
    "expected_experts",
    "has_compiler",
    "measure",
    "no_compiler",
    "profile_step",
    "read_bandwidth",
    "result_sentences",
    "result_table",
    "serve",
    "share_out",
    "weight_bytes",
]
