"""Whether a model folder is there and whole, found out without any package: a look at names and sizes.

`helpers.download` checks contents as well; this is for the environment check, which has to run before it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from helpers import settings

MANIFEST = ".course-manifest.json"  # written by helpers.download when a download has ended
INDEX = "model.safetensors.index.json"
#: Files of which a tokenizer can be made; "merges.txt" goes with "vocab.json".
TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "vocab.txt", "tekken.json")
HEADER_LIMIT = 10**8  # bytes; a longer header is none


@dataclass(frozen=True)
class FolderState:
    """`state`: "none", "gone", "incomplete", "unreadable" or "complete"; `present`: bytes that are there."""

    state: str
    present: int = 0


NO_FOLDER = FolderState("none")


def recorded_download() -> FolderState:
    """State of the download that notebook 03 has recorded; "none" if it has recorded none.

    A record is not a model: an image that was saved on AutoDL keeps the system disk, where the record lies,
    and loses the data disk, where the model lay.
    """
    try:
        record = settings.read_record()
    except (OSError, ValueError, RecursionError):
        return FolderState("unreadable")
    if record is None:
        return NO_FOLDER
    return folder_state(record["folder"])


def folder_state(folder: str | Path) -> FolderState:
    """Whether a model folder holds every file that its manifest or its index names, at full size."""
    folder = settings.expanded(folder)
    if not os.path.isdir(folder):
        return FolderState("gone")
    try:
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        whole = _is_whole(folder, sizes)
    except OSError:
        return FolderState("unreadable")
    state = "incomplete"
    if whole:
        state = "complete"
    return FolderState(state, sum(sizes.values()))


def _is_whole(folder: Path, sizes: dict[str, int]) -> bool:
    """`sizes`: name and bytes of the files in the folder."""
    manifest = _read_json(folder / MANIFEST)
    try:
        if manifest:
            return all(sizes.get(file["path"]) == file["size"] for file in manifest["files"])
        shards = ["model.safetensors"]
        index = _read_json(folder / INDEX)
        if INDEX in sizes:
            shards = sorted(set(index["weight_map"].values()))
    except (LookupError, TypeError, AttributeError):  # neither file is what its name says
        return False
    if "config.json" not in sizes or not all(shard in sizes for shard in shards):
        return False
    if missing_tokenizer(folder):
        return False
    return all(size_by_header(folder / shard) == sizes[shard] for shard in shards)


def missing_tokenizer(folder: Path) -> list[str]:
    """Names of the files that a tokenizer lacks; a folder needs one of several kinds."""
    there = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not there and not list(folder.glob("*.tiktoken")):
        return ["tokenizer.json"]
    if there == ["vocab.json"] and not (folder / "merges.txt").is_file():
        return ["merges.txt"]
    return []


def read_header(file: Path) -> tuple[int, dict]:
    """Bytes before the first tensor of a safetensors file, and what its header says of each tensor.

    The file begins with the length of the header (8 bytes), then comes the header as JSON.
    ValueError if there is no such header.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, HEADER_LIMIT)))
    header.pop("__metadata__", None)
    return 8 + length, header


def size_by_header(file: Path) -> int:
    """Bytes that a safetensors file must have by its own header; -1 if it has none."""
    try:
        start, header = read_header(file)
        return start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return -1


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
