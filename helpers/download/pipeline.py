"""Download a model from ModelScope and know that it arrived whole.

ModelScope's own client carries the bytes: it resumes, checks sha256 as it reads, locks out a second download.
This module guards what the client leaves open: it checks the list of files before anything is written, counts
the free disk, shows one bar for the whole model, and leaves a manifest that `verify` holds the folder against
at any time, offline. MB and GB are 10^6 and 10^9 bytes. Every error is a CourseError of one sentence.

In a terminal: `python -m helpers.download plan|download|verify MODEL`
"""

import argparse
import logging
import os
import re
import shutil
import sys
import threading
from dataclasses import dataclass, replace
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import modelscope_hub._download as client
from modelscope_hub import CacheNotFound, FileDownloadError, HubApi, HubConfig
from tqdm.auto import tqdm

from helpers import REAL_MODEL_ID, CourseError
from helpers.download import manifest
from helpers.download.file_list import NoNetworkError, connect, list_files, reason
from helpers.download.manifest import ModelFile
from helpers.settings import record_file

logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # the sentences below replace its log
AUTODL_DISK = Path("/root/autodl-tmp")
DAY = 24 * 3600  # seconds that a file may take; the client allows an hour, too short for 4 GB on a slow line


@dataclass(frozen=True)
class Plan:
    """What a download would do; `total`, `remaining` and `free` in bytes, `speed` in MB/s."""

    files: list[ModelFile]
    total: int
    remaining: int
    free: int
    speed: float

    def __str__(self) -> str:
        minutes = f"{self.remaining / self.speed / 6e7:.1f} minutes at {self.speed} MB/s"
        here = (
            f"{len(self.files)} files, {_size(self.total)}, here already {_size(self.total - self.remaining)}"
        )
        return f"{here}\nto download {_size(self.remaining)}, {minutes}\nfree on this disk {_size(self.free)}"


def plan(model_id=REAL_MODEL_ID, revision="master", cache_dir=None, speed: float = 10) -> Plan:
    """List the model's files and say what a download would do, and how long it takes at `speed` MB/s."""
    folder = _folder(model_id, revision, cache_folder(cache_dir))
    files = list_files(model_id, revision, folder)
    total, here = sum(file.size for file in files), sum(file.bytes_in(folder) for file in files)
    remaining, free = total - here, shutil.disk_usage(next(p for p in folder.parents if p.exists())).free
    if remaining > free:
        raise CourseError(_no_space(remaining, free))
    return Plan(files, total, remaining, free, speed)


def download(model_id=REAL_MODEL_ID, revision="master", cache_dir=None) -> Path:
    """Download what is missing of the model, check it, and return the folder that ModelScope's client chose.

    An interrupted download goes on where it stopped. Without network, a complete copy from before is used.
    Only the real model is recorded for `choose_model()`.
    """
    cache = cache_folder(cache_dir)
    folder = _folder(model_id, revision, cache)
    known = manifest.read(folder)
    try:
        files = plan(model_id, revision, cache).files
    except NoNetworkError as error:
        if known is None or known[:2] != (model_id, revision):
            raise
        print(f"{error} Using the copy on disk.")
        return verify(folder)
    hashes = {file.path: file.sha256 for file in known[2]} if known else {}
    if {file.path: file.sha256 or hashes.get(file.path) for file in files} == hashes:
        return verify(folder, repair=True)
    (folder / manifest.NAME).unlink(missing_ok=True)  # from here on the folder counts as half downloaded
    if model_id == REAL_MODEL_ID:
        record_file().unlink(missing_ok=True)
    _fetch(model_id, revision, folder, cache, files)
    if unlisted := [file.path for file in files if not file.sha256]:
        print(f"{len(unlisted)} files have no sha256 in the hub's list: only their size could be checked.")
        hashes = manifest.hash_files(folder, unlisted)
    manifest.write(folder, model_id, revision, [replace(f, sha256=f.sha256 or hashes[f.path]) for f in files])
    return verify(folder)


def verify(folder: str | Path, full: bool = False, repair: bool = False) -> Path:
    """Hold every file of a downloaded folder against its manifest, offline, and return the folder.

    A file with the recorded size and time of change counts as unchanged; `full` hashes every file again.
    `repair` downloads the wrong files again, and only those.
    """
    folder = Path(folder)
    if (known := manifest.read(folder)) is None:
        raise CourseError("This folder was not downloaded to the end: run download, which fetches the rest.")
    model_id, revision, files = known
    wrong, hashed = manifest.wrong_files(folder, files, full)
    if wrong and not repair:
        name, problem = min(wrong.items())
        raise CourseError(
            f"{len(wrong)} of {len(files)} files wrong, {name} {problem}: verify with repair=True."
        )
    if wrong:
        print(f"Wrong, and fetched again: {', '.join(sorted(wrong))}")
        _fetch(model_id, revision, folder, cache_folder(), [file for file in files if file.path in wrong])
        manifest.write(folder, model_id, revision, files)
        return verify(folder)
    if hashed:
        manifest.write(folder, model_id, revision, files)
    total, note = _size(sum(file.size for file in files)), f" ({hashed} hashed now)" if hashed else ""
    print(f"{model_id}: {len(files)} files, {total}, complete{note}")
    if model_id == REAL_MODEL_ID:
        record = {"model_id": model_id, "revision": revision, "folder": str(folder.resolve())}
        manifest.write_json(record_file(), record)
    return folder


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def _no_space(needed: int, free: int) -> str:
    other = AUTODL_DISK if AUTODL_DISK.is_dir() else "a folder on a larger disk"
    return f"{_size(needed)} are to come and the disk has {_size(free)} free: pass cache_dir={str(other)!r}."


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """The client's cache folder; on AutoDL the data disk, because the system disk is too small."""
    default = AUTODL_DISK if AUTODL_DISK.is_dir() else "~/.cache/modelscope"
    return Path(cache_dir or os.environ.get("MODELSCOPE_CACHE") or default).expanduser().resolve()


def _folder(model_id: str, revision: str, cache: Path) -> Path:
    """Ask the client where it keeps the model: the layout differs between its versions."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model_id) or not re.fullmatch(r"\w[\w.-]*", revision):
        raise CourseError(f"A model is named owner/name, a revision like master: {model_id!r}, {revision!r}?")
    where = {"revision": revision, "cache_dir": str(cache), "local_files_only": True}
    try:
        if (cache / model_id.split("/")[0]).is_dir() or (cache / "hub").is_dir():  # an older layout
            from modelscope import snapshot_download  # takes 3 seconds to import

            return Path(snapshot_download(model_id, **where))
        return Path(HubApi(HubConfig()).download_repo(model_id, "model", **where))
    except CacheNotFound as not_there_yet:
        return Path(not_there_yet.cache_dir)


class _Bar:
    """One bar for the whole model, exact to the byte, fed by the client's threads."""

    def __init__(self, folder: Path, files: list[ModelFile]):
        self.sizes = {file.path: file.size for file in files}
        self.counted = {file.path: file.bytes_in(folder) for file in files}
        total, here = sum(self.sizes.values()), sum(self.counted.values())
        # `delay`: a bar that would be gone at once is not drawn
        self.bar = tqdm(total=total, initial=here, unit="B", unit_scale=True, delay=1, leave=False)
        self.lock = threading.Lock()

    def start_file(self, path: str, size: int) -> SimpleNamespace:
        """The client's callback for one file; it counts a resumed part itself, so the bar starts from 0."""
        self.add(path, -self.counted[path])
        return SimpleNamespace(update=partial(self.add, path), end=lambda: None)

    def add(self, path: str, count: int) -> None:
        with self.lock:
            self.counted[path] += count
            self.bar.update(count)
            if count <= 0 or self.counted[path] == self.sizes[path]:
                whole = sum(self.counted[path] == size for path, size in self.sizes.items())
                self.bar.set_postfix_str(f"{whole}/{len(self.sizes)} files", refresh=False)


def _fetch(model_id: str, revision: str, folder: Path, cache: Path, files: list[ModelFile]) -> None:
    """Let the client bring the files into the folder. Whatever has arrived stays there when it is stopped."""
    connect()
    progress = _Bar(folder, files)
    wanted = [{"Path": file.path, "Size": file.size, "Sha256": file.sha256 or None} for file in files]
    settings = {
        "tqdm": partial(tqdm, disable=True),  # no bar for each file
        "DOWNLOAD_PARALLELS": 1,  # pieces of one file in parallel would not survive a change of this setting
        "DOWNLOAD_TOTAL_TIMEOUT": DAY,
        "DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS": DAY,
    }
    try:
        with mock.patch.multiple(client, **settings), progress.bar:
            where = {"cache_dir": str(cache), "local_dir": str(folder), "revision": revision}
            callbacks = {"file_list": wanted, "progress_callbacks": [progress.start_file]}
            HubApi(HubConfig()).download_repo(model_id, "model", **where, **callbacks)
    except FileDownloadError as error:
        causes = error.failed_files
        missing = sum(file.size - file.bytes_in(folder) for file in files)
        if any(getattr(cause, "errno", None) in (ENOSPC, EDQUOT) for cause in causes.values()):
            raise CourseError(_no_space(missing, shutil.disk_usage(folder).free)) from None
        path, cause = min(causes.items())
        raise CourseError(
            f"{len(causes)} of {len(files)} files did not arrive, {path}: {reason(cause)}; the rest is kept."
        ) from None
    except OSError as error:
        raise CourseError(f"Cannot write to the cache folder: {error.strerror}.") from None
    except KeyboardInterrupt:
        here = sum(file.bytes_in(folder) for file in files)
        print(f"Stopped with {_size(here)} of {_size(progress.bar.total)} on disk: run this again to go on.")
        raise


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.download", description="Download a model and check it."
    )
    parser.add_argument("action", choices=("plan", "download", "verify"))
    parser.add_argument(
        "model", nargs="?", default=REAL_MODEL_ID, help="owner/name, for verify also a folder"
    )
    parser.add_argument("--revision", default="master")
    parser.add_argument("--cache-dir")
    parser.add_argument("--full", action="store_true", help="verify: hash every file again")
    parser.add_argument("--repair", action="store_true", help="verify: download wrong files again")
    options = parser.parse_args()
    model = (options.model, options.revision, options.cache_dir)
    try:
        if options.action == "plan":
            print(plan(*model))
        elif options.action == "download":
            print(download(*model))
        else:
            folder = Path(options.model)
            folder = folder if folder.is_dir() else _folder(*model[:2], cache_folder(options.cache_dir))
            verify(folder, options.full, options.repair)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
