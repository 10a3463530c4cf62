"""How large a model is, block by block: what `capacity.decide` needs to know about it. Standard library only.

Sizes are numbers of parameters, so that one description serves every dtype; `block_bytes` gives bytes.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers import CourseError
from helpers.environment.model_config import EXPERT_COUNTS
from helpers.environment.model_folder import read_header
from helpers.environment.model_kind import settings_to_load
from helpers.language import say

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class ModelSize:
    """Parameters of the blocks of a decoder, in the order in which a token passes them."""

    name: str
    embedding: int
    layers: tuple[int, ...]  # one number a layer
    norm: int  # after the last layer, and whatever else belongs to no layer
    head: int  # 0 if it shares the parameters of the embedding
    active: int  # parameters read to compute one token: of the routed experts, only the chosen ones

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + sum(self.layers) + self.norm + self.head

    @property
    def largest_block(self) -> int:
        """Parameters of the largest part that the planner moves as a whole."""
        return max(self.embedding, self.head, *self.layers)


#: Qwen1.5-MoE-A2.7B-Chat; notebook 01 counts these from its config.json. One expert has 3 x 2048 x 1408
#: parameters; a token skips 56 of the 60 in each layer.
REAL_MODEL = ModelSize(
    name="Qwen1.5-MoE-A2.7B-Chat",
    embedding=311_164_928,
    layers=(570_560_512,) * 24,
    norm=2_048,
    head=311_164_928,
    active=24 * (570_560_512 - 56 * 3 * 2048 * 1408) + 2_048 + 311_164_928,
)


def size_from_parameters(
    name: str, parameters: Iterable[tuple[str, int]], experts: int = 0, chosen: int = 0
) -> ModelSize:
    """Sort named parameters into blocks.

    `parameters`: pairs of a name such as `model.layers.3.mlp.gate.weight` and its number of elements, in the
    layout of a checkpoint or of a loaded model; `experts` and `chosen`: routed experts of a layer and how
    many of them a token uses (0 and 0 for a dense model).
    """
    embedding = norm = head = routed = 0
    layers: dict[int, int] = {}
    for parameter, count in parameters:
        layer = re.match(r"(?:\w+\.)*?(?:layers|h|blocks|block)\.(\d+)\.", parameter)
        if layer:
            number = int(layer[1])
            layers[number] = layers.get(number, 0) + count
            if ".experts." in parameter:
                routed += count
        elif re.search(r"embed|wte|wpe", parameter):
            embedding += count
        elif re.search(r"lm_head|output", parameter):
            head += count
        else:
            norm += count
    skipped = 0
    if experts:
        skipped = routed * (experts - chosen) // experts
    active = sum(layers.values()) - skipped + norm + (head or embedding)
    sizes = tuple(layers[number] for number in sorted(layers))
    return ModelSize(name, embedding, sizes, norm, head, active)


def size_of_folder(folder: str | Path) -> ModelSize:
    """Size of a model folder, read from the headers of its safetensors files and its config.json.

    CourseError when there are none, when a header cannot be read, and for what the loader does not load
    either: a config that makes no sense, and quantized weights.
    """
    folder = Path(folder)
    config = settings_to_load(folder)
    files = sorted(folder.glob("*.safetensors"))
    experts = next((config[name] for name in EXPERT_COUNTS if config.get(name)), 0)
    chosen = config.get("num_experts_per_tok")
    tied = bool(config.get("tie_word_embeddings"))
    try:
        parameters = [entry for file in files for entry in _tensors(file)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        sentence = say(
            "The safetensors files of the model folder {name} cannot be read: "
            "download it again, or use real.",
            name=folder.name,
        )
        raise CourseError(sentence) from None
    if not parameters:
        raise CourseError(
            say("{name} holds no safetensors files: give a complete model folder.", name=folder.name)
        )
    if tied:
        parameters = [entry for entry in parameters if not entry[0].startswith("lm_head")]
    return size_from_parameters(folder.name, parameters, experts, chosen or 0)


def _tensors(file: Path) -> list[tuple[str, int]]:
    """Name and number of elements of each tensor in a safetensors file."""
    _, header = read_header(file)
    return [(name, math.prod(entry["shape"])) for name, entry in header.items()]
