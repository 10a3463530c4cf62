"""What a model folder has to hold, and how large its weights are."""

import json
from pathlib import Path

from helpers import CourseError

INDEX = "model.safetensors.index.json"


def read_index(model_dir: Path) -> tuple[list[str], int]:
    """Names of the shards and the bytes of weights that the index of a model folder promises.

    A folder without an index has one file of weights, and nothing is promised. CourseError for a damaged
    index.
    """
    index = model_dir / INDEX
    if not index.is_file():
        return ["model.safetensors"], 0
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        shards = sorted(set(content["weight_map"].values()))
        return shards, content["metadata"]["total_size"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise CourseError(f"{INDEX} of {model_dir.name} is damaged: run notebook 03 again.") from None


def weights_bytes(model_dir: Path) -> int:
    """Bytes of the safetensors files of a complete model folder; CourseError when anything is missing."""
    shards, promised = read_index(model_dir)
    tokenizer = "tokenizer.json"
    if (model_dir / "vocab.json").is_file():
        tokenizer = "vocab.json"
    needed = ["config.json", tokenizer, *shards]
    missing = [name for name in needed if not (model_dir / name).is_file()]
    if missing:
        raise incomplete(model_dir, f"no {', '.join(missing[:3])}")
    size = sum((model_dir / name).stat().st_size for name in shards)
    if size < promised:
        raise incomplete(model_dir, f"{size:,} of {promised:,} bytes of weights")
    return size


def incomplete(model_dir: Path, what: str) -> CourseError:
    """The sentence for a model folder of which `what` is wrong."""
    return CourseError(f"The model folder {model_dir.name} is incomplete ({what}): run notebook 03 again.")
