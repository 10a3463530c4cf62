"""Checks of notebook 03: the speed of a line, a silent damage, a hub that lies, and a header read by hand."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers import CourseError
from helpers.download import manifest, plan_download
from helpers.download.compare import HASHES_DIFFER, compare
from helpers.download.local_hub import LocalHub
from helpers.environment import REAL_MODEL
from helpers.exercises.safetensors_bytes import TENSORS, Example, mistake_in, write_example
from helpers.exercises.verdict import WrongAnswerError, verdict

# Exercise 1

REAL_BYTES = 2 * REAL_MODEL.total
SECONDS = 20 * 60
MEGA = 10**6
RIGHT_SPEED = 8 * REAL_BYTES / SECONDS / MEGA  # Mbit/s

#: A speed that somebody may give -> what led to it.
SPEED_MISTAKES = {
    RIGHT_SPEED / 8: "that is the speed in megabytes. A line is sold in megabits, and a byte has 8 bits.",
    RIGHT_SPEED / 64: "you divided by 8. A byte has 8 bits: are there more bits, or fewer?",
    8 * REAL_BYTES / SECONDS / 2**20: "you counted with 2^20. Lines and downloads are counted in 10^6.",
    REAL_BYTES / SECONDS / 2**20: "that is the speed in MiB. Count in 10^6, and then in bits.",
    60 * RIGHT_SPEED: "that is megabits a minute.",
    60 * RIGHT_SPEED / 8: "that is megabytes a minute.",
    RIGHT_SPEED / 1000: "that is gigabits.",
    RIGHT_SPEED * MEGA: "that is bits a second, without the mega.",
    RIGHT_SPEED / 2: "that is one byte a number. The model is stored in bf16.",
    RIGHT_SPEED * 2: "that is four bytes a number. The model is stored in bf16.",
    RIGHT_SPEED * SECONDS: "that is the number of megabits. In how many seconds are they to come?",
}
CLOSE = 0.01  # of the value; 2^20 for 10^6 is 5 % off


@verdict
def check_line(speed):
    """The speed of a line, in Mbit/s, that brings the real model in 20 minutes."""
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        raise WrongAnswerError(f"a number of Mbit/s is asked for, not {type(speed).__name__}.")
    if not 0 < speed < float("inf"):
        raise WrongAnswerError(f"{speed} Mbit/s is no speed.")
    if abs(speed - RIGHT_SPEED) <= CLOSE * RIGHT_SPEED:
        return (
            "what a provider promises is the most that a line carries. Plan with what you measure: the bar "
            "of the download shows it, in bytes."
        )
    for wrong, hint in SPEED_MISTAKES.items():
        if abs(speed - wrong) <= CLOSE * wrong:
            raise WrongAnswerError(f"{speed:,.1f} Mbit/s: {hint}")
    direction = "small"
    if speed > RIGHT_SPEED:
        direction = "large"
    raise WrongAnswerError(
        f"{speed:,.1f} Mbit/s is too {direction}. Bytes first, then bits, then divide by the seconds."
    )


# Exercise 2


@verdict
def check_silent_damage(folder):
    """A folder with a damage that `verify` finds only with `full=True`."""
    if not isinstance(folder, str | Path):
        raise WrongAnswerError(
            f"the folder that you damaged is asked for, such as toy, not {type(folder).__name__}."
        )
    folder = Path(folder)
    known = manifest.read(folder)
    if known is None:
        raise WrongAnswerError("that is no folder with a manifest: give the folder toy of section 5.")
    quick = compare(folder, known.files).wrong
    full = compare(folder, known.files, full=True).wrong
    if not full:
        raise WrongAnswerError(
            "every file has its sha256: nothing is damaged there. A bit that is changed twice is as before."
        )
    if quick:
        path = min(quick)
        hint = "its time of change is new. What did you measure before, to put it back?"
        if quick[path] != HASHES_DIFFER:
            hint = "change a byte, and neither add nor remove one."
        raise WrongAnswerError(f"verify finds it at once, {path} {quick[path]}: {hint}")
    return (
        f"{min(full)} {full[min(full)]}, and only full=True tells. A disk that fails does not "
        "write a time of change: run it once after you moved or copied a model."
    )


# Exercise 3


@verdict
def check_tampered(hub_class):
    """A class derived from LocalHub whose list holds a file outside of the model's folder."""
    if isinstance(hub_class, LocalHub):
        hub_class.server_close()
        raise WrongAnswerError("that is a hub; give the class itself, without parentheses.")
    if not isinstance(hub_class, type) or not issubclass(hub_class, LocalHub):
        raise WrongAnswerError("a class derived from LocalHub is asked for: class TamperedHub(LocalHub).")
    with hub_class() as hub, tempfile.TemporaryDirectory() as cache:
        honest = LocalHub.file_list(hub)
        lied = hub.file_list()
        compare_lists(honest, lied)
        refusal = refusal_of(hub.model_id, cache)
    if not refusal:
        added = [entry["Path"] for entry in lied if entry not in honest]
        raise WrongAnswerError(f"the plan accepts {added[0]!r}: it stays inside the model's folder.")
    if "unsafe path" not in refusal:
        raise WrongAnswerError(
            f"the plan refuses, but for another reason: {refusal} Are Path, Size and Sha256 as in the others?"
        )
    return (
        f"{refusal} ModelScope's client alone (1.40.2) writes such a file to where its path leads, and a hub "
        "or a proxy in between can list what it likes."
    )


def compare_lists(honest: list[dict], lied: object) -> None:
    """WrongAnswerError unless the second list is the first one with something added."""
    if lied is None or lied is Ellipsis:
        raise WrongAnswerError("file_list() returns nothing yet. It is to return a list.")
    if not isinstance(lied, list):
        raise WrongAnswerError(f"file_list() is to return a list, and returns {type(lied).__name__}.")
    missing = [entry for entry in honest if entry not in lied]
    if missing:
        raise WrongAnswerError(
            f"the list lacks {len(missing)} of the model's own files, which makes it easy to notice: take "
            "super().file_list() and add to it."
        )
    added = [entry for entry in lied if entry not in honest]
    if not added:
        raise WrongAnswerError("the list is the honest one: nothing is added.")
    for entry in added:
        if not isinstance(entry, dict) or "Path" not in entry:
            raise WrongAnswerError(f"an entry is a dictionary such as {honest[0]}, not {entry!r:.80}.")


def refusal_of(model_id: str, cache: str) -> str:
    """What `plan_download` says when it refuses; "" if it does not."""
    try:
        plan_download(model_id, cache_dir=cache)
    except CourseError as error:
        return str(error)
    return ""


# Exercise 4


@verdict
def check_read_tensor(read_tensor):
    """A function of a path and a tensor's name that returns the tensor's shape and its bytes."""
    if not callable(read_tensor):
        raise WrongAnswerError(f"a function is asked for, not {type(read_tensor).__name__}.")
    with tempfile.TemporaryDirectory() as folder:
        # Two headers of different length: a length that was typed in is wrong for one of them.
        for padding in (3, 500):
            example = write_example(Path(folder), padding)
            for name in ("second", "third", "first", "last"):
                check_one(read_tensor, example, name)
    return (
        "your function has read two files and two types. This is what makes the format safe and quick: "
        "nothing in it is executed, and one tensor is read without the others."
    )


def check_one(read_tensor: Callable, example: Example, name: str) -> None:
    """WrongAnswerError, with what probably led to it, if the function reads this tensor wrongly."""
    try:
        answer = read_tensor(example.path, name)
    except Exception as error:
        raise WrongAnswerError(why_it_stopped(error)) from error
    if answer is None or answer is Ellipsis:
        raise WrongAnswerError("your function returns nothing yet. It is to return shape and bytes.")
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswerError("two things are to be returned: return shape, data.")
    shape, data = answer
    compare_shape(shape, name)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise WrongAnswerError(f"data is to be the bytes as read from the file, not {type(data).__name__}.")
    mistake = mistake_in(bytes(data), example, name)
    if mistake:
        dtype = TENSORS[name][0]
        raise WrongAnswerError(
            f"of the tensor {name!r} ({dtype}, {TENSORS[name][1]}) you return {len(data)} bytes. {mistake}"
        )


def compare_shape(shape: object, name: str) -> None:
    """WrongAnswerError if this is not the shape of the tensor."""
    if isinstance(shape, bytes | bytearray):
        raise WrongAnswerError("shape comes first, then the bytes: return shape, data.")
    if not isinstance(shape, list | tuple):
        raise WrongAnswerError(f"shape is to be the list that the header holds, not {type(shape).__name__}.")
    right = TENSORS[name][1]
    if list(shape) == right:
        return
    if list(shape) == right[::-1]:
        raise WrongAnswerError("rows and columns are exchanged in the shape.")
    for other, (_, other_shape, _) in TENSORS.items():
        if list(shape) == other_shape:
            raise WrongAnswerError(f"asked for {name!r}, you return the shape of {other!r}.")
    raise WrongAnswerError(f"the shape of {name!r} is not {list(shape)}: take it from the header's entry.")


def why_it_stopped(error: Exception) -> str:
    """A hint for an error that was raised inside the learner's function."""
    if isinstance(error, MemoryError | OverflowError):
        return (
            "the length of the header came out as a number far beyond any file. In which order do its 8 "
            "bytes stand?"
        )
    if isinstance(error, json.JSONDecodeError):
        return of_json(error)
    if isinstance(error, UnicodeDecodeError):
        return of_text(error)
    if isinstance(error, KeyError) and error.args[0] in ("dtype", "shape", "data_offsets"):
        return (
            f"an entry of the header has no {error.args[0]}: that is __metadata__, which is no tensor. Take "
            "the entry with the name that is asked for."
        )
    if isinstance(error, KeyError):
        return f"the header has no entry {error}. Is a name typed in where the parameter `name` belongs?"
    what = (str(error).strip() or "no message").splitlines()[0]
    return f"your function stopped ({type(error).__name__}: {what})."


def of_text(error: UnicodeDecodeError) -> str:
    """A hint for bytes that are taken for the header and are no text."""
    if error.object[:1] != b"{":
        return begins_with(error.object)
    return (
        "what you take for the header begins right and runs on into the numbers, which are no text. Print "
        "its length: is it plausible, and in which order do the 8 bytes of the length stand?"
    )


def begins_with(header: str | bytes) -> str:
    """A hint for a header that was read from the wrong place."""
    return (
        f"what you take for the header begins with {header[:8]!r}, and JSON begins with a brace. How many "
        "bytes stand before it?"
    )


def of_json(error: json.JSONDecodeError) -> str:
    """A hint for a header that json cannot read."""
    if error.msg.startswith("Extra data"):
        return "you give json more than the header: it ends where its length says."
    if not error.doc:
        return "you give json an empty text. Was the header read, and was it read only once?"
    if error.pos == 0:
        return begins_with(error.doc)
    return "the header that you give to json is cut off: is its length right, and does it count from byte 8?"
