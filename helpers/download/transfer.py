"""Bring files of a model onto the disk: ModelScope's client carries the bytes, one bar shows them.

The client resumes, checks sha256 as it reads, and locks out a second download of the same file. Whatever has
arrived stays on the disk when it is stopped.
"""

import logging
import shutil
import threading
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from modelscope_hub import FileDownloadError, HubApi, HubConfig
from tqdm.auto import tqdm

from helpers import GB, CourseError
from helpers.compat import quiet_patient_client
from helpers.download.faults import reason
from helpers.download.file_list import connect
from helpers.download.manifest import ModelFile
from helpers.download.place import Place
from helpers.settings import DATA_DISK, has_data_disk

logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # the course's sentences replace its log
DAY = 24 * 3600  # seconds that a file may take; the client allows an hour, too short for 4 GB on a slow line


def transfer(place: Place, wanted: list[ModelFile], whole: list[ModelFile]) -> None:
    """Fetch the wanted files; the bar runs over the `whole` list. CourseError if one does not arrive."""
    connect()
    for file in wanted:
        if file.size_in(place.folder) == file.size:  # complete and wrong: the client would hash it once more
            (place.folder / file.path).unlink()
    bar = TransferBar(place.folder, whole)
    try:
        with quiet_patient_client(seconds_a_file=DAY), bar.bar:
            call_client(place, wanted, bar)
    except FileDownloadError as error:
        raise CourseError(explain(error, place.folder, whole)) from None
    except OSError as error:
        raise CourseError(f"Cannot write to the cache folder: {error.strerror}.") from None
    except KeyboardInterrupt:
        here = sum(file.bytes_in(place.folder) for file in whole)
        print(f"Stopped with {size_text(here)} of {size_text(bar.total)} on disk: run this again to go on.")
        raise


def call_client(place: Place, wanted: list[ModelFile], bar: "TransferBar") -> None:
    """Hand the files to ModelScope's client, in the form of the hub's own list."""
    entries = [{"Path": file.path, "Size": file.size, "Sha256": file.sha256 or None} for file in wanted]
    HubApi(HubConfig()).download_repo(
        place.model_id,
        "model",
        revision=place.revision,
        cache_dir=str(place.cache),  # where the client keeps its locks
        local_dir=str(place.folder),
        file_list=entries,
        progress_callbacks=[bar.start_file],
    )


def explain(error: FileDownloadError, folder: Path, whole: list[ModelFile]) -> str:
    """One sentence for the files that did not arrive."""
    causes = error.failed_files
    if any(getattr(cause, "errno", None) in (ENOSPC, EDQUOT) for cause in causes.values()):
        missing = sum(file.size - file.bytes_in(folder) for file in whole)
        return no_space(missing, shutil.disk_usage(folder).free)
    path = min(causes)
    count = f"{len(causes)} of {len(whole)} files"
    return f"{count} did not arrive, {path}: {reason(causes[path])}; the rest is kept."


class TransferBar:
    """One bar for the whole model, exact to the byte, fed by the client's threads."""

    def __init__(self, folder: Path, files: list[ModelFile]):
        self.sizes = {file.path: file.size for file in files}
        self.counted = {file.path: file.bytes_in(folder) for file in files}
        self.total = sum(self.sizes.values())
        here = sum(self.counted.values())
        # `delay`: a bar that would be gone at once is not drawn
        self.bar = tqdm(total=self.total, initial=here, unit="B", unit_scale=True, delay=1, leave=False)
        self.lock = threading.Lock()

    def start_file(self, path: str, size: int) -> SimpleNamespace:
        """The client's callback for one file; it counts a resumed part itself, so the bar starts from 0."""
        self.add(path, -self.counted[path])
        return SimpleNamespace(update=partial(self.add, path), end=lambda: None)

    def add(self, path: str, count: int) -> None:
        """Count bytes of a file; a negative count takes back what has to be fetched again."""
        with self.lock:
            self.counted[path] += count
            self.bar.update(count)
            if count <= 0 or self.counted[path] == self.sizes[path]:
                whole = sum(self.counted[path] == size for path, size in self.sizes.items())
                self.bar.set_postfix_str(f"{whole}/{len(self.sizes)} files", refresh=False)


def size_text(count: float) -> str:
    """Bytes for reading, in GB or MB (10^9, 10^6)."""
    if count >= GB:
        return f"{count / GB:.2f} GB"
    return f"{count / 1e6:.2f} MB"


def no_space(needed: int, free: int) -> str:
    """The sentence for a disk that is too small; sizes in bytes."""
    other = "a folder on a larger disk"
    if has_data_disk():
        other = str(DATA_DISK)
    return (
        f"{size_text(needed)} are to come and the disk has {size_text(free)} free: pass cache_dir={other!r}."
    )
