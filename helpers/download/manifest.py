"""What a downloaded model folder must hold, and whether it does.

When a download has ended, a manifest (path, size, sha256 and time of change of every file) is written into
the folder. A folder without one was not downloaded to the end, whatever else it holds.
"""

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from helpers import CourseError

NAME = ".course-manifest.json"


@dataclass(frozen=True)
class ModelFile:
    """A file of a model: path, size in bytes, sha256 ("": none is listed) and time of change when checked."""

    path: str
    size: int
    sha256: str
    mtime_ns: int = 0

    def stat(self, folder: Path) -> tuple[int, int]:
        """Size and time of change of the file in the folder; (-1, 0) if it is not there."""
        target = folder / self.path
        return (target.stat().st_size, target.stat().st_mtime_ns) if target.is_file() else (-1, 0)

    def bytes_in(self, folder: Path) -> int:
        """Bytes that need no download: the whole file, or the part of it that the client will resume."""
        part = folder / f"{self.path}.incomplete"
        if self.stat(folder)[0] == self.size:
            return self.size
        return min(part.stat().st_size, self.size) if part.is_file() else 0


def checked(folder: Path, path: str, size: int, sha256: str, mtime_ns: int = 0) -> ModelFile:
    """A file of a list, after making sure that it lands inside the folder and has a usable size and sha256.

    Refused: absolute paths, `..`, backslashes, drive letters, control characters, and links that lead out.
    """
    unsafe = not path.isprintable() or set("\\:") & set(path) or {"", ".", ".."} & set(path.split("/"))
    places = () if unsafe else (folder / path, folder / f"{path}.incomplete")
    if unsafe or not all(place.resolve().is_relative_to(folder.resolve()) for place in places):
        raise CourseError(
            f"The list of files holds the unsafe path {path[:80]!r}, so nothing was downloaded."
        )
    if type(size) is not int or size < 0 or not re.fullmatch(r"[0-9a-f]{64}|", sha256):
        raise CourseError(
            f"The list of files has no usable size or sha256 for {path}, so nothing was downloaded."
        )
    return ModelFile(path, size, sha256, mtime_ns)


def read(folder: Path) -> tuple[str, str, list[ModelFile]] | None:
    """Model, revision and files as recorded when the download ended; None if there is no usable record."""
    try:
        content = json.loads((folder / NAME).read_text("utf-8"))
        return (
            content["model_id"],
            content["revision"],
            [checked(folder, **file) for file in content["files"]],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(folder: Path, model_id: str, revision: str, files: list[ModelFile]) -> None:
    """Record the files with their present times of change; from now on the folder counts as complete."""
    entries = [asdict(replace(file, mtime_ns=file.stat(folder)[1])) for file in files]
    write_json(folder / NAME, {"model_id": model_id, "revision": revision, "files": entries})


def write_json(path: Path, content: dict) -> None:
    """Write in one step: whoever stops this program leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".new").write_text(json.dumps(content, indent=1), "utf-8")
    path.with_suffix(".new").replace(path)


def hash_files(folder: Path, paths: list[str]) -> dict[str, str]:
    """sha256 of each file, several files at a time, with one bar over all bytes."""

    def sha256(path: str) -> str:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
        with (folder / path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                bar.update(count)
        return digest.hexdigest()

    total = sum((folder / path).stat().st_size for path in paths)
    # `delay`: a bar that would be gone at once is not drawn
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="sha256", delay=1, leave=False)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(sha256, paths), strict=True))


def wrong_files(folder: Path, files: list[ModelFile], full: bool) -> tuple[dict[str, str], int]:
    """What is wrong with the files of the folder, by path, and how many were hashed to find out.

    A file with the recorded size and time of change counts as unchanged unless `full` is set.
    """
    wrong = {f.path: "is missing or has another size" for f in files if f.stat(folder)[0] != f.size}
    changed = [f for f in files if f.path not in wrong and (full or f.stat(folder)[1] != f.mtime_ns)]
    hashes = hash_files(folder, [file.path for file in changed])
    wrong |= {file.path: "has another sha256" for file in changed if hashes[file.path] != file.sha256}
    return wrong or wrong_tensors(folder, [file.path for file in files]), len(changed)


def wrong_tensors(folder: Path, paths: list[str]) -> dict[str, str]:
    """Hold the header of each safetensors file against its length, and the index against the headers."""
    wrong, tensors, shard_of = {}, {}, {}
    for path in paths:
        try:
            if path.endswith(".safetensors"):
                with (folder / path).open("rb") as file:
                    length = int.from_bytes(file.read(8), "little")
                    header = json.loads(file.read(min(length, 10**8)))
                tensors[path] = {name: entry for name, entry in header.items() if name != "__metadata__"}
                end = max((entry["data_offsets"][1] for entry in tensors[path].values()), default=0)
                if 8 + length + end != (folder / path).stat().st_size:
                    wrong[path] = "has another length than its header says"
            elif path == "model.safetensors.index.json":
                shard_of = json.loads((folder / path).read_text("utf-8"))["weight_map"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            wrong[path] = "cannot be read as what its name says"
    lacking = {shard for name, shard in shard_of.items() if name not in tensors.get(shard, {})}
    return wrong or dict.fromkeys(lacking, "lacks tensors that the index names")
