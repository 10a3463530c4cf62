"""Hold files on the disk against a list of files: by size, by sha256, and by what they say of themselves."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from helpers.download.manifest import ModelFile
from helpers.download.progress import byte_bar
from helpers.language import say, to_say

INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 10**8  # bytes; what safetensors itself accepts
BLOCK = 2**20  # bytes read at once

# What can be wrong with a file; the sentences go on with what to do.
OTHER_SIZE = to_say("{path} is missing or has another size")
HASHES_DIFFER = to_say("{path} has another sha256")
UNREADABLE = to_say("{path} cannot be read as what its name says")
OTHER_LENGTH = to_say("{path} has another length than its header says")
LACKS_TENSORS = to_say("{path} lacks tensors that the index names")


@dataclass(frozen=True)
class Comparison:
    """What was found.

    wrong: what is wrong with a file, by its path, to be said with it. hashed: how many files were read in
    full to find out. times: of change of each file before it was looked at, in nanoseconds, by its path; 0 if
    it was not there.
    """

    wrong: dict[str, str]
    hashed: int
    times: dict[str, int]


def compare(folder: Path, files: list[ModelFile], full: bool = False) -> Comparison:
    """Compare the files of the folder with a list of them.

    A file whose time of change is that of the list was checked before and counts as unchanged, unless `full`
    is set. Where the list has no sha256, size and header have to do.
    """
    wrong = {}
    to_hash = []
    times = {file.path: file.mtime_ns_in(folder) for file in files}
    for file in files:
        if file.size_in(folder) != file.size:
            wrong[file.path] = OTHER_SIZE
        elif not file.sha256:
            wrong |= wrong_tensors(folder, [file.path])
        elif full or times[file.path] != file.mtime_ns:
            to_hash.append(file)
    hashes = hash_files(folder, [file.path for file in to_hash])
    for file in to_hash:
        if hashes[file.path] != file.sha256:
            wrong[file.path] = HASHES_DIFFER
    return Comparison(wrong, len(to_hash), times)


def hash_files(folder: Path, paths: list[str]) -> dict[str, str]:
    """sha256 of each file by its path, several files at a time, with one bar over all bytes."""
    total = sum((folder / path).stat().st_size for path in paths)
    bar = byte_bar(total, what=say("sha256 of {count} files on this disk", count=len(paths)))

    def sha256(path: str) -> str:
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(BLOCK))
        with (folder / path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                bar.update(count)
        return digest.hexdigest()

    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(sha256, paths), strict=True))


def wrong_tensors(folder: Path, paths: list[str]) -> dict[str, str]:
    """Hold each safetensors header against its file's length, and the index against all headers.

    Returns what is wrong, by path, as in `Comparison`. Needs no list of hashes: a cut or mixed-up checkpoint
    is found offline.
    """
    wrong = {}
    tensors = {}  # names of the tensors in each shard
    for path in paths:
        if path.endswith(".safetensors"):
            try:
                header, end = read_header(folder / path)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                wrong[path] = UNREADABLE
                continue
            tensors[path] = set(header)
            if end != (folder / path).stat().st_size:
                wrong[path] = OTHER_LENGTH
    if wrong or INDEX not in paths:
        return wrong
    try:
        shard_of = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        lacking = {shard for name, shard in shard_of.items() if name not in tensors.get(shard, ())}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {INDEX: UNREADABLE}
    return dict.fromkeys(lacking, LACKS_TENSORS)


def read_header(path: Path) -> tuple[dict[str, dict], int]:
    """The tensors that a safetensors file describes, and the length in bytes that the file must have.

    A header is 8 bytes with its own length (little endian), then JSON: dtype, shape and data_offsets of each.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, LONGEST_HEADER)))
    header.pop("__metadata__", None)
    ends = [entry["data_offsets"][1] for entry in header.values()]
    return header, 8 + length + max(ends, default=0)
