"""Download a model from ModelScope and know that it arrived whole.

    list -> compare -> transfer -> check -> record

ModelScope's own client carries the bytes (`transfer`). The course guards what the client leaves open: it
checks the list of files before anything is written, counts the free disk, shows one bar for the whole model,
and leaves a manifest that `verify` holds the folder against at any time, offline. MB and GB are 10^6 and 10^9
bytes. Every error is a CourseError of one sentence.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from helpers import REAL_MODEL_ID, CourseError
from helpers.download import manifest
from helpers.download.adopt import adopt
from helpers.download.compare import Comparison, compare, hash_files, wrong_tensors
from helpers.download.errors import Advice, DownloadError, NoNetworkError
from helpers.download.faults import explain, one_sentence
from helpers.download.file_list import list_files
from helpers.download.locks import wait_for_others
from helpers.download.manifest import Manifest, ModelFile
from helpers.download.place import Place, cache_around, locate
from helpers.download.progress import size_text
from helpers.download.transfer import no_space, transfer
from helpers.language import listed, say, to_say
from helpers.model_names import canonical_id, same_model
from helpers.settings import record_file
from helpers.terminal import in_a_row


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would do; `total`, `remaining` and `free` in bytes, `speed` in MB/s."""

    files: list[ModelFile]
    total: int
    remaining: int
    free: int
    speed: float

    def __str__(self) -> str:
        minutes = self.remaining / (self.speed * 1e6) / 60
        here = self.total - self.remaining
        lines = (
            say(
                "{count} files, {total}, here already {here}",
                count=len(self.files),
                total=size_text(self.total),
                here=size_text(here),
            ),
            say(
                "to download {remaining}, {minutes:.1f} minutes at {speed} MB/s",
                remaining=size_text(self.remaining),
                minutes=minutes,
                speed=self.speed,
            ),
            say("free on this disk {free}", free=size_text(self.free)),
        )
        return "\n".join(lines)


def plan_download(
    model: str = REAL_MODEL_ID,
    revision: str = "master",
    cache_dir: str | Path | None = None,
    speed: float = 10,
) -> DownloadPlan:
    """List the model's files and say what a download would do, and how long it takes at `speed` MB/s.

    Writes nothing. CourseError if something stands in the way, such as too small a disk.
    """
    if not speed > 0:
        raise DownloadError(
            to_say("A speed of {speed} MB/s is none: {cure}."),
            Advice(say("give speed=10"), say("give --speed 10")),
            speed=speed,
        )
    with one_sentence(to_say("The download cannot be planned: {cause} ({cure}).")):
        place = locate(model, revision, cache_dir)
        files = list_files(place.model_id, place.revision, place.folder)
        return make_plan(place, files, speed)


def download(
    model: str = REAL_MODEL_ID, revision: str = "master", cache_dir: str | Path | None = None
) -> Path:
    """Download what is missing of the model, check it, and return the folder that ModelScope's client chose.

    `model`: its id, in any case, or another name that `model_names.resolve` understands. An interrupted
    download goes on where it stopped. Without network, a complete copy from before is used. Only the real
    model is recorded for `choose_model()`.
    """
    with one_sentence(to_say("The download stopped: {cause} ({cure}).")):
        # 1. Where it goes, and what is known of that place.
        place = locate(model, revision, cache_dir)
        known = manifest.read(place.folder)
        # 2. What the hub has.
        try:
            files = list_files(place.model_id, place.revision, place.folder)
        except NoNetworkError as error:
            if not is_of(known, place):
                raise
            print(in_a_row(str(error), say("Using the copy on disk.")))
            return verify(place.folder)
        make_plan(place, files)  # refuses if the disk is too small
        # 3. What of it is here, and right.
        wait_for_others(place, [file for file in files if file.size_in(place.folder) != file.size])
        known = manifest.read(place.folder)
        files = with_memory(files, known)
        found = compare(place.folder, files)
        # 4. Fetch the rest.
        if known is None or different(known.files, files):
            forget(place)
        if found.wrong:
            tell_damaged(found, known, files)
            wanted = [file for file in files if file.path in found.wrong]
            transfer(place, wanted, files, found.times)
        # 5. Check the whole folder, and record it.
        files = with_hashes(place.folder, files)
        check(place.folder, files)
        return record(place.folder, Manifest(place.model_id, place.revision, files), found, known)


def verify(folder: str | Path, full: bool = False, repair: bool = False, model_id: str | None = None) -> Path:
    """Hold every file of a downloaded folder against its manifest, offline, and return the folder.

    A file with the recorded size and time of change counts as unchanged; `full` hashes every file again.
    `repair` downloads the wrong files again, and only those. A folder without manifest gets one if it is
    complete: by the hub's list of the model that its path or `model_id` names, else by hashing what is there.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise CourseError(
            say("There is no folder {folder}: correct the path, or run download.", folder=folder)
        )
    with one_sentence(to_say("The check stopped: {cause} ({cure}).")):
        known = manifest.read(folder)
        wanted = known or adopt(folder, model_id, repair)
        place = place_of(folder, wanted)
        if repair:
            wait_for_others(place, wanted.files)
        found = compare(folder, wanted.files, full)
        wrong = found.wrong or wrong_tensors(folder, [file.path for file in wanted.files])
        if wrong and not repair:
            raise files_wrong(wrong, wanted.files)
        if wrong:
            found = replace(found, wrong=wrong)
            mend(place, found, wanted)
        files = with_hashes(folder, wanted.files)
        return record(folder, replace(wanted, files=files), found, known)


# The steps, each with one job


def make_plan(place: Place, files: list[ModelFile], speed: float = 10) -> DownloadPlan:
    """Count what is here and what is to come; CourseError if the disk is too small for it."""
    total = sum(file.size for file in files)
    remaining = total - sum(file.bytes_in(place.folder) for file in files)
    existing = next(parent for parent in place.folder.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if remaining > free:
        raise no_space(remaining, free, place.cache)
    return DownloadPlan(files, total, remaining, free, speed)


def is_of(known: Manifest | None, place: Place) -> bool:
    """Whether a manifest describes the model and revision of this place."""
    return (
        known is not None and same_model(known.model_id, place.model_id) and known.revision == place.revision
    )


def with_memory(files: list[ModelFile], known: Manifest | None) -> list[ModelFile]:
    """The hub's files with what an earlier check knows of them: time of change, and a sha256 not listed."""
    if known is None:
        return files
    remembered = {file.path: file for file in known.files}
    result = []
    for file in files:
        old = remembered.get(file.path)
        if old is not None and old.size == file.size and file.sha256 in ("", old.sha256):
            file = old
        result.append(file)
    return result


def tell_damaged(found: Comparison, known: Manifest | None, files: list[ModelFile]) -> None:
    """Name the files that were right at the last check and are wrong now."""
    if known is None:
        return
    damaged = [file.path for file in files if file.path in found.wrong and file in known.files]
    if damaged:
        say_fetched_again(damaged)


def say_fetched_again(paths: Iterable[str]) -> None:
    """Name files that are here and wrong."""
    print(say("Wrong, and fetched again: {paths}", paths=listed(sorted(paths))))


def different(some: list[ModelFile], others: list[ModelFile]) -> bool:
    """Whether two lists name different contents; times of change do not count."""
    contents = [{(file.path, file.size, file.sha256) for file in files} for files in (some, others)]
    return contents[0] != contents[1]


def forget(place: Place) -> None:
    """From here on the folder counts as half downloaded, and the real model as not there."""
    (place.folder / manifest.NAME).unlink(missing_ok=True)
    if place.model_id == REAL_MODEL_ID:
        record_file().unlink(missing_ok=True)


def place_of(folder: Path, wanted: Manifest) -> Place:
    """A folder as the place of the model that it holds."""
    model_id = canonical_id(wanted.model_id)
    return Place(model_id, wanted.revision, cache_around(folder, model_id), folder, wanted.model_id)


def mend(place: Place, found: Comparison, wanted: Manifest) -> None:
    """Fetch the wrong files of a folder again, and check it; CourseError where no hub has them."""
    if not wanted.revision:
        raise CourseError(
            say(
                "{wrong} of {all} files wrong, {path} first, and this folder is from no hub that the course "
                "knows: get them anew from where it comes from.",
                wrong=len(found.wrong),
                all=len(wanted.files),
                path=min(found.wrong),
            )
        )
    say_fetched_again(found.wrong)
    files = [file for file in wanted.files if file.path in found.wrong]
    transfer(place, files, files, found.times)
    check(place.folder, wanted.files)


def files_wrong(wrong: dict[str, str], files: list[ModelFile]) -> DownloadError:
    """The sentence for files that are not as they should be: how many, one of them, and what helps."""
    path = min(wrong)
    return DownloadError(
        to_say("{wrong} of {all} files wrong, {what}: {cure}."),
        Advice(say("verify with repair=True"), say("verify with --repair")),
        wrong=len(wrong),
        all=len(files),
        what=say(wrong[path], path=path),
    )


def with_hashes(folder: Path, files: list[ModelFile]) -> list[ModelFile]:
    """The files with a sha256 each: where the hub lists none, that of what has arrived."""
    unlisted = [file.path for file in files if not file.sha256]
    if not unlisted:
        return files
    print(
        say(
            "{count} files have no sha256 in the hub's list: only their size could be checked.",
            count=len(unlisted),
        )
    )
    hashes = hash_files(folder, unlisted)
    return [replace(file, sha256=file.sha256 or hashes[file.path]) for file in files]


def check(folder: Path, files: list[ModelFile]) -> None:
    """Check what sizes and hashes cannot show: that the weights are what their headers and the index say."""
    wrong = wrong_tensors(folder, [file.path for file in files])
    if wrong:
        path = min(wrong)
        raise CourseError(
            say(
                "{wrong} of {all} files wrong, {what}, although they are what the hub lists: the model is "
                "damaged there, take another one or another revision.",
                wrong=len(wrong),
                all=len(files),
                what=say(wrong[path], path=path),
            )
        )


def record(folder: Path, checked: Manifest, found: Comparison, known: Manifest | None) -> Path:
    """Write the manifest where something is new, say that the model is complete, and record the real one."""
    checked = replace(checked, model_id=canonical_id(checked.model_id))
    if found.hashed or found.wrong or checked != known:
        sentence = to_say(
            "All files are here, but the manifest cannot be written into {folder}: {cause} ({cure})."
        )
        with one_sentence(sentence, folder=folder):
            manifest.write(folder, checked)
    total = sum(file.size for file in checked.files)
    values = {
        "name": checked.model_id or folder.name,
        "count": len(checked.files),
        "size": size_text(total),
    }
    if found.hashed and not found.wrong:
        print(
            say(
                "{name}: {count} files, {size}, complete ({hashed} hashed now)", hashed=found.hashed, **values
            )
        )
    else:
        print(say("{name}: {count} files, {size}, complete", **values))
    if checked.model_id == REAL_MODEL_ID:
        record_real(folder, checked.revision)
    return folder


def record_real(folder: Path, revision: str) -> None:
    """Record where the real model is, for `choose_model()`."""
    content = {"model_id": REAL_MODEL_ID, "revision": revision, "folder": str(folder.resolve())}
    try:
        manifest.write_json(record_file(), content)
    except OSError as error:
        fault = explain(error)
        raise CourseError(
            say(
                "The model is complete, but {record} cannot be written ({cause}), so the notebooks will not "
                "find it by themselves: mend that and run verify, or set COURSE_MODEL={folder}.",
                record=record_file(),
                cause=fault.cause,
                folder=folder.resolve(),
            )
        ) from error
