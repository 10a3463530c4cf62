"""Notebook 07: how fast a model answers, how fast its memory would allow, and what lies between.

measuring.py  `measure`: time to the first token, time for each token after it
roofline.py   the bytes that a token must read, and the limit that the memory sets
results.py    what the full-size benchmark found on GPUs
"""

from helpers.speed.measuring import Speed, compare, measure
from helpers.speed.results import draw_results, result_sentences, result_table
from helpers.speed.roofline import CARDS, WeightBytes, expected_experts, read_bandwidth, weight_bytes

__all__ = [
    "CARDS",
    "Speed",
    "WeightBytes",
    "compare",
    "draw_results",
    "expected_experts",
    "measure",
    "read_bandwidth",
    "result_sentences",
    "result_table",
    "weight_bytes",
]
