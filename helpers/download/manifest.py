"""The manifest: which files a downloaded model folder holds, written into the folder itself.

When a download has ended and was checked, path, size, sha256 and time of change of every file are written to
`.course-manifest.json`. A folder without it was not downloaded to the end, whatever else it holds.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from helpers import CourseError
from helpers.language import say

NAME = ".course-manifest.json"


@dataclass(frozen=True)
class ModelFile:
    """A file of a model.

    path: inside the model's folder, with slashes. size: in bytes. sha256: 64 hexadecimal digits, "" if the
    hub lists none. mtime_ns: time of change when it was checked, in nanoseconds; 0 if it was not.
    """

    path: str
    size: int
    sha256: str
    mtime_ns: int = 0

    def size_in(self, folder: Path) -> int:
        """Bytes of the file in the folder; -1 if it is not there."""
        target = folder / self.path
        if not target.is_file():
            return -1
        return target.stat().st_size

    def mtime_ns_in(self, folder: Path) -> int:
        """Time of change of the file in the folder, in nanoseconds; 0 if it is not there."""
        target = folder / self.path
        if not target.is_file():
            return 0
        return target.stat().st_mtime_ns

    def bytes_in(self, folder: Path) -> int:
        """Bytes that need no download: the whole file, or the part of it that the client will resume."""
        if self.size_in(folder) == self.size:
            return self.size
        part = folder / f"{self.path}.incomplete"
        if not part.is_file():
            return 0
        return min(part.stat().st_size, self.size)


@dataclass(frozen=True)
class Manifest:
    """What was downloaded: the model's id, its revision, and its files as they were checked."""

    model_id: str
    revision: str
    files: list[ModelFile]


def is_safe_path(folder: Path, path: str) -> bool:
    """Whether a listed path stays inside the folder on every system.

    Not safe: absolute paths, `..`, backslashes, drive letters, control characters, and links that lead out.
    """
    if not path.isprintable() or "\\" in path or ":" in path:
        return False
    if {"", ".", ".."} & set(path.split("/")):
        return False
    inside = folder.resolve()
    return all((folder / name).resolve().is_relative_to(inside) for name in (path, f"{path}.incomplete"))


def safe_file(folder: Path, path: str, size: int, sha256: str, mtime_ns: int = 0) -> ModelFile:
    """A file of a list, once it is sure to land inside the folder and to have a usable size and sha256."""
    if not is_safe_path(folder, path):
        raise CourseError(
            say(
                "The list of files holds the unsafe path {path!r}, so nothing was downloaded.", path=path[:80]
            )
        )
    if type(size) is not int or size < 0 or not re.fullmatch(r"[0-9a-f]{64}|", sha256):
        raise CourseError(
            say(
                "The list of files has no usable size or sha256 for {path}, so nothing was downloaded.",
                path=path,
            )
        )
    return ModelFile(path, size, sha256, mtime_ns)


def read(folder: Path) -> Manifest | None:
    """The folder's manifest; None if there is none, or none that can be used."""
    try:
        content = json.loads((folder / NAME).read_text("utf-8"))
        files = [safe_file(folder, **file) for file in content["files"]]
        return Manifest(content["model_id"], content["revision"], files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with the files' present times of change: then the folder counts as complete."""
    files = [replace(file, mtime_ns=file.mtime_ns_in(folder)) for file in manifest.files]
    content = {
        "model_id": manifest.model_id,
        "revision": manifest.revision,
        "files": [asdict(file) for file in files],
    }
    write_json(folder / NAME, content)


def write_json(path: Path, content: dict) -> None:
    """Write in one step: whoever stops this program leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")  # two downloads that end together must not share it
    try:
        new.write_text(json.dumps(content, indent=1), "utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
