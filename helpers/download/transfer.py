"""Bring files of a model onto the disk: ModelScope's client carries the bytes, one bar shows them.

The client resumes, checks sha256 as it reads, and locks out a second download of the same file. Whatever has
arrived stays on the disk when it is stopped.
"""

import logging
import shutil
import threading
import time
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from modelscope_hub import FileDownloadError, HubApi, HubConfig

from helpers.compat import quiet_patient_client
from helpers.download.errors import Advice, DownloadError
from helpers.download.faults import explain, unwrap
from helpers.download.locks import other_holder
from helpers.download.manifest import ModelFile
from helpers.download.network import connect
from helpers.download.place import Place
from helpers.download.progress import QUIET, byte_bar, every_half_second, size_text, time_text
from helpers.language import say, to_say
from helpers.settings import DATA_DISK, has_data_disk

logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # the course's sentences replace its log
DAY = 24 * 3600  # seconds that a file may take; the client allows an hour, too short for 4 GB on a slow line
STILL = 2  # seconds without a byte after which the bar says why


def transfer(place: Place, wanted: list[ModelFile], whole: list[ModelFile], times: dict[str, int]) -> None:
    """Fetch the wanted files; the bar runs over the `whole` list. DownloadError if one does not arrive.

    `times`: of change of each file when it was found wrong, in nanoseconds.
    """
    connect()
    for file in wanted:
        remove_wrong(place.folder, file, times[file.path])
    bar = TransferBar(place, whole)
    try:
        with quiet_patient_client(seconds_a_file=DAY), bar:
            call_client(place, wanted, bar)
    except FileDownloadError as error:
        raise not_arrived(error, place, whole) from error
    except KeyboardInterrupt:
        here = sum(file.bytes_in(place.folder) for file in whole)
        print(
            say(
                "Stopped with {here} of {total} on disk: run this again to go on.",
                here=size_text(here),
                total=size_text(bar.total),
            )
        )
        raise


def remove_wrong(folder: Path, file: ModelFile, time_found_wrong: int) -> None:
    """Remove a file that is complete and wrong, which the client would only hash once more.

    One that has changed since it was found wrong stays: another download has just brought it.
    """
    if file.size_in(folder) == file.size and file.mtime_ns_in(folder) == time_found_wrong:
        (folder / file.path).unlink(missing_ok=True)


def call_client(place: Place, wanted: list[ModelFile], bar: "TransferBar") -> None:
    """Hand the files to ModelScope's client, in the form of the hub's own list."""
    entries = [{"Path": file.path, "Size": file.size, "Sha256": file.sha256 or None} for file in wanted]
    HubApi(HubConfig()).download_repo(
        place.spelling,
        "model",
        revision=place.revision,
        cache_dir=str(place.cache),  # where the client keeps its locks
        local_dir=str(place.folder),
        file_list=entries,
        progress_callbacks=[bar.start_file],
    )


def not_arrived(error: FileDownloadError, place: Place, whole: list[ModelFile]) -> DownloadError:
    """The sentence for files that did not arrive: how many, one of them, and why that one."""
    causes = error.failed_files
    for cause in causes.values():
        if any(getattr(inner, "errno", None) in (ENOSPC, EDQUOT) for inner in unwrap(cause)):
            missing = sum(file.size - file.bytes_in(place.folder) for file in whole)
            return no_space(missing, shutil.disk_usage(place.folder).free, place.cache)
    path = min(causes)
    fault = explain(causes[path])
    return DownloadError(
        to_say("{count} of {all} files did not arrive, {path}: {cause} ({cure}); the rest is kept."),
        fault.cure,
        count=len(causes),
        all=len(whole),
        path=path,
        cause=fault.cause,
    )


def no_space(needed: int, free: int, cache: Path) -> DownloadError:
    """The sentence for a disk that is too small; sizes in bytes."""
    other = "/another/disk"
    if has_data_disk() and not cache.is_relative_to(DATA_DISK):
        other = str(DATA_DISK)
    return DownloadError(
        to_say("{needed} are to come and the disk has {free} free: {cure}."),
        Advice(
            say("pass cache_dir={folder!r}", folder=other), say("pass --cache-dir {folder}", folder=other)
        ),
        needed=size_text(needed),
        free=size_text(free),
    )


class TransferBar:
    """One bar for the whole model, exact to the byte; the client's threads count, one of its own draws.

    total: bytes of all files. counted: bytes that are here, by path.
    """

    def __init__(self, place: Place, files: list[ModelFile]):
        self.place = place
        self.files = files
        self.sizes = {file.path: file.size for file in files}
        self.counted = {file.path: file.bytes_in(place.folder) for file in files}
        self.total = sum(self.sizes.values())
        self.start = time.monotonic()
        self.last_byte = self.start
        self.resuming: set[str] = set()  # files whose first part is being hashed again
        self.bar = None
        self.lock = threading.Lock()

    @property
    def here(self) -> int:
        """Bytes that are on the disk."""
        return sum(self.counted.values())

    def start_file(self, path: str, size: int) -> SimpleNamespace:
        """The client's callback for one file; it counts a resumed part itself, so the count starts from 0."""
        with self.lock:
            if self.counted[path]:
                self.resuming.add(path)
            self.counted[path] = 0
        return SimpleNamespace(update=partial(self.add, path), end=partial(self.resuming.discard, path))

    def add(self, path: str, count: int) -> None:
        """Count bytes of a file; a negative count takes back what has to be fetched again."""
        with self.lock:
            if self.counted[path] > 0:  # what comes after the resumed part
                self.resuming.discard(path)
            self.counted[path] += count
            self.last_byte = time.monotonic()

    def show(self) -> None:
        """Draw the bar as it stands, from the first second on."""
        now = time.monotonic()
        if now - self.start < QUIET:
            return
        here = self.here
        if self.bar is None:
            self.bar = byte_bar(self.total, here, delay=0)
        self.bar.update(here - self.bar.n)
        complete = sum(self.counted[path] == size for path, size in self.sizes.items())
        count = say("{complete}/{all} files", complete=complete, all=len(self.sizes))
        self.bar.set_postfix_str(count, refresh=False)
        self.bar.set_description_str(self.explanation(now - self.last_byte))

    def explanation(self, still: float) -> str:
        """Why no byte has come for so many seconds; "" while bytes come."""
        if still < STILL:
            return ""
        if self.resuming:
            return say(
                "hashing the parts of {count} files that are here, {time}",
                count=len(self.resuming),
                time=time_text(still),
            )
        missing = [file for file in self.files if self.counted[file.path] < file.size]
        other = other_holder(self.place, missing)
        if other is not None:
            return say(
                "waiting for process {pid} ({command}, running for {time})",
                pid=other.pid,
                command=other.command,
                time=time_text(other.seconds),
            )
        return say("no bytes for {time}, the client tries again by itself", time=time_text(still))

    def __enter__(self) -> "TransferBar":
        self.drawing = every_half_second(self.show)
        self.drawing.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.drawing.__exit__(*error)
        if self.bar is not None:
            # To the last byte: a notebook leaves a bar that is not full on the page, in red.
            self.bar.update(self.here - self.bar.n)
            self.bar.close()
