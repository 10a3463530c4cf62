"""What this machine can do with a model folder, asked before anything is loaded.

The rule is `helpers.environment.decide`, as in the environment check and in the forecast. Here it gets the
memory that torch sees, and transformers' own planner: what it says of `device_map="auto"` is what
`from_pretrained` then does.
"""

from dataclasses import replace
from pathlib import Path

import psutil

from helpers import GIB, CourseError
from helpers.environment import (
    Capacity,
    Card,
    Kind,
    Memory,
    ModelSize,
    decide,
    free_disk,
    free_ram,
    gpu_holders,
    real_planner,
    size_from_parameters,
)
from helpers.environment.model_size import EXPERT_COUNTS
from helpers.inference.model_folder import weights_bytes

SMALL_MODEL = 100 * 2**20  # bytes of weights; so little is loaded anywhere
BF16_CAPABILITY = (8, 0)  # compute capability from which on a GPU computes in bf16
#: What the call of notebook 04 asks for.
BARE_OPTIONS = {"device_map": "auto", "dtype": "bfloat16"}
HOW_TO_OFFLOAD = (
    'If you want that, name a folder on a disk with so much room: load(model_dir, offload_folder="offload"), '
    "in a terminal --offload-folder offload; delete it afterwards."
)
