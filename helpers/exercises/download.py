"""Checks of notebook 03: the speed of a line, a silent damage, a hub that lies, and a header read by hand."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers import CourseError
from helpers.download import manifest, plan_download
from helpers.download.compare import compare
from helpers.download.local_hub import LocalHub
from helpers.environment import REAL_MODEL
from helpers.exercises.safetensors_bytes import TENSORS, Example, mistake_in, write_example
from helpers.exercises.verdict import WrongAnswerError, first_line, verdict
from helpers.language import say, to_say
from helpers.terminal import in_a_row

# Exercise 1

REAL_BYTES = 2 * REAL_MODEL.total
SECONDS = 20 * 60
MEGA = 10**6
RIGHT_SPEED = 8 * REAL_BYTES / SECONDS / MEGA  # Mbit/s

#: A speed that somebody may give -> what led to it.
SPEED_MISTAKES = {
    RIGHT_SPEED / 8: to_say(
        "that is the speed in megabytes. A line is sold in megabits, and a byte has 8 bits."
    ),
    RIGHT_SPEED / 64: to_say("you divided by 8. A byte has 8 bits: are there more bits, or fewer?"),
    8 * REAL_BYTES / SECONDS / 2**20: to_say(
        "you counted with 2^20. Lines and downloads are counted in 10^6."
    ),
    REAL_BYTES / SECONDS / 2**20: to_say("that is the speed in MiB. Count in 10^6, and then in bits."),
    60 * RIGHT_SPEED: to_say("that is megabits a minute."),
    60 * RIGHT_SPEED / 8: to_say("that is megabytes a minute."),
    RIGHT_SPEED / 1000: to_say("that is gigabits."),
    RIGHT_SPEED * MEGA: to_say("that is bits a second, without the mega."),
    RIGHT_SPEED / 2: to_say("that is one byte a number. The model is stored in bf16."),
    RIGHT_SPEED * 2: to_say("that is four bytes a number. The model is stored in bf16."),
    RIGHT_SPEED * SECONDS: to_say("that is the number of megabits. In how many seconds are they to come?"),
}
CLOSE = 0.01  # of the value; 2^20 for 10^6 is 5 % off


@verdict
def check_line(speed):
    """The speed of a line, in Mbit/s, that brings the real model in 20 minutes."""
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        raise WrongAnswerError(say("a number of Mbit/s is asked for, not {kind}.", kind=type(speed).__name__))
    if not 0 < speed < float("inf"):
        raise WrongAnswerError(say("{speed} Mbit/s is no speed.", speed=speed))
    if abs(speed - RIGHT_SPEED) <= CLOSE * RIGHT_SPEED:
        return say(
            "what a provider promises is the most that a line carries. Plan with what you measure: the "
            "bar of the download shows it, in bytes."
        )
    for wrong, hint in SPEED_MISTAKES.items():
        if abs(speed - wrong) <= CLOSE * wrong:
            raise WrongAnswerError(say("{speed:,.1f} Mbit/s: {hint}", speed=speed, hint=say(hint)))
    if speed > RIGHT_SPEED:
        raise WrongAnswerError(
            say(
                "{speed:,.1f} Mbit/s is too large. Bytes first, then bits, then divide by the seconds.",
                speed=speed,
            )
        )
    raise WrongAnswerError(
        say(
            "{speed:,.1f} Mbit/s is too small. Bytes first, then bits, then divide by the seconds.",
            speed=speed,
        )
    )


# Exercise 2


@verdict
def check_silent_damage(folder):
    """A folder with a damage that `verify` finds only with `full=True`."""
    if not isinstance(folder, str | Path):
        raise WrongAnswerError(
            say(
                "the folder that you damaged is asked for, such as toy, not {kind}.",
                kind=type(folder).__name__,
            )
        )
    folder = Path(folder)
    known = manifest.read(folder)
    if known is None:
        raise WrongAnswerError(say("that is no folder with a manifest: give the folder toy of section 5."))
    quick = compare(folder, known.files).wrong
    full = compare(folder, known.files, full=True).wrong
    if not full:
        raise WrongAnswerError(
            say(
                "every file has its sha256: nothing is damaged there. A bit that is changed twice is as "
                "before."
            )
        )
    if quick:
        raise WrongAnswerError(why_it_is_seen(folder, known.files, min(quick)))
    return say(
        "the damage is there, and verify passes over it. A disk that fails leaves the same behind: "
        "what would you call once after you have moved or copied a model?"
    )


def why_it_is_seen(folder: Path, files: list[manifest.ModelFile], path: str) -> str:
    """Why a quick look is enough to find the damage of the file `path`."""
    file = next(file for file in files if file.path == path)
    if file.size_in(folder) != file.size:
        return say(
            "verify finds it at once, {path} is missing or has another size: change a byte, and neither "
            "add nor remove one.",
            path=path,
        )
    return say(
        "verify finds it at once, {path} has another sha256: its time of change is new. What did you "
        "measure before, to put it back?",
        path=path,
    )


# Exercise 3


@verdict
def check_tampered(hub_class):
    """A class derived from LocalHub whose list holds a file outside of the model's folder."""
    if isinstance(hub_class, LocalHub):
        hub_class.server_close()
        raise WrongAnswerError(say("that is a hub; give the class itself, without parentheses."))
    if not isinstance(hub_class, type) or not issubclass(hub_class, LocalHub):
        raise WrongAnswerError(
            say("a class derived from LocalHub is asked for: class TamperedHub(LocalHub).")
        )
    with hub_class() as hub, tempfile.TemporaryDirectory() as cache:
        added = added_entries(LocalHub.file_list(hub), hub.file_list())
        refusal = refusal_of(hub.model_id, cache)
        leads_out = [entry for entry in added if not manifest.is_safe_path(Path(cache), entry["Path"])]
    if not refusal:
        raise WrongAnswerError(
            say("the plan accepts {path!r}: it stays inside the model's folder.", path=added[0]["Path"])
        )
    if not leads_out or not all(map(is_complete, added)):
        raise WrongAnswerError(
            say(
                "the plan refuses, but for another reason: {refusal} Are Path, Size and Sha256 as in the "
                "others?",
                refusal=refusal,
            )
        )
    return say(
        "a hub or a proxy in between can list what it likes. ModelScope's client alone (1.40.2) "
        "writes such a file to where its path leads. And plan_download? Ask it, with your hub "
        "running."
    )


def is_complete(entry: dict) -> bool:
    """Whether an entry has a size and a sha256 that a list may hold, wherever its path leads."""
    try:
        manifest.safe_file(Path(), "any.json", entry["Size"], entry["Sha256"])
    except (CourseError, KeyError, TypeError):
        return False
    return True


def added_entries(honest: list[dict], lied: object) -> list[dict]:
    """What the second list holds besides the first one; WrongAnswerError if it is not the first and more."""
    if lied is None or lied is Ellipsis:
        raise WrongAnswerError(say("file_list() returns nothing yet. It is to return a list."))
    if not isinstance(lied, list):
        raise WrongAnswerError(
            say("file_list() is to return a list, and returns {kind}.", kind=type(lied).__name__)
        )
    missing = [entry for entry in honest if entry not in lied]
    if missing:
        raise WrongAnswerError(
            say(
                "the list lacks {count} of the model's own files, which makes it easy to notice: take "
                "super().file_list() and add to it.",
                count=len(missing),
            )
        )
    added = [entry for entry in lied if entry not in honest]
    if not added:
        raise WrongAnswerError(say("the list is the honest one: nothing is added."))
    for entry in added:
        if not isinstance(entry, dict) or "Path" not in entry:
            raise WrongAnswerError(
                say(
                    "an entry is a dictionary such as {example}, not {entry!r:.80}.",
                    example=honest[0],
                    entry=entry,
                )
            )
    return added


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
        raise WrongAnswerError(say("a function is asked for, not {kind}.", kind=type(read_tensor).__name__))
    with tempfile.TemporaryDirectory() as folder:
        # Two headers of different length: a length that was typed in is wrong for one of them.
        for padding in (3, 500):
            example = write_example(Path(folder), padding)
            for name in ("second", "third", "first", "last"):
                check_one(read_tensor, example, name)
    return say(
        "your function has read two files and two types. This is what makes the format safe and "
        "quick: nothing in it is executed, and one tensor is read without the others."
    )


def check_one(read_tensor: Callable, example: Example, name: str) -> None:
    """WrongAnswerError, with what probably led to it, if the function reads this tensor wrongly."""
    try:
        answer = read_tensor(example.path, name)
    except Exception as error:
        raise WrongAnswerError(why_it_stopped(error)) from error
    if answer is None or answer is Ellipsis:
        raise WrongAnswerError(say("your function returns nothing yet. It is to return shape and bytes."))
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise WrongAnswerError(say("two things are to be returned: return shape, data."))
    shape, data = answer
    compare_shape(shape, name)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise WrongAnswerError(
            say("data is to be the bytes as read from the file, not {kind}.", kind=type(data).__name__)
        )
    mistake = mistake_in(bytes(data), example, name)
    if mistake:
        dtype = TENSORS[name][0]
        returned = say(
            "of the tensor {name!r} ({dtype}, {shape}) you return {count} bytes.",
            name=name,
            dtype=dtype,
            shape=TENSORS[name][1],
            count=len(data),
        )
        raise WrongAnswerError(in_a_row(returned, mistake))


def compare_shape(shape: object, name: str) -> None:
    """WrongAnswerError if this is not the shape of the tensor."""
    if isinstance(shape, bytes | bytearray):
        raise WrongAnswerError(say("shape comes first, then the bytes: return shape, data."))
    if not isinstance(shape, list | tuple):
        raise WrongAnswerError(
            say("shape is to be the list that the header holds, not {kind}.", kind=type(shape).__name__)
        )
    right = TENSORS[name][1]
    if list(shape) == right:
        return
    if list(shape) == right[::-1]:
        raise WrongAnswerError(say("rows and columns are exchanged in the shape."))
    for other, (_, other_shape, _) in TENSORS.items():
        if list(shape) == other_shape:
            raise WrongAnswerError(
                say("asked for {name!r}, you return the shape of {other!r}.", name=name, other=other)
            )
    raise WrongAnswerError(
        say(
            "the shape of {name!r} is not {shape}: take it from the header's entry.",
            name=name,
            shape=list(shape),
        )
    )


def why_it_stopped(error: Exception) -> str:
    """A hint for an error that was raised inside the learner's function."""
    if isinstance(error, MemoryError | OverflowError):
        return say(
            "the length of the header came out as a number far beyond any file. In which order do its 8 "
            "bytes stand?"
        )
    if isinstance(error, json.JSONDecodeError):
        return of_json(error)
    if isinstance(error, UnicodeDecodeError):
        return of_text(error)
    if isinstance(error, KeyError) and error.args[0] in ("dtype", "shape", "data_offsets"):
        return say(
            "an entry of the header has no {key}: that is __metadata__, which is no tensor. Take the "
            "entry with the name that is asked for.",
            key=error.args[0],
        )
    if isinstance(error, KeyError):
        return say(
            "the header has no entry {error}. Is a name typed in where the parameter `name` belongs?",
            error=error,
        )
    return say(
        "your function stopped ({kind}: {message}).", kind=type(error).__name__, message=first_line(error)
    )


def of_text(error: UnicodeDecodeError) -> str:
    """A hint for bytes that are taken for the header and are no text."""
    if error.object[:1] != b"{":
        return begins_with(error.object)
    return say(
        "what you take for the header begins right and runs on into the numbers, which are no text. "
        "Print its length: is it plausible, and in which order do the 8 bytes of the length stand?"
    )


def begins_with(header: str | bytes) -> str:
    """A hint for a header that was read from the wrong place."""
    return say(
        "what you take for the header begins with {start!r}, and JSON begins with a brace. How many "
        "bytes stand before it?",
        start=header[:8],
    )


def of_json(error: json.JSONDecodeError) -> str:
    """A hint for a header that json cannot read."""
    if error.msg.startswith("Extra data"):
        return say("you give json more than the header: it ends where its length says.")
    if not error.doc:
        return say("you give json an empty text. Was the header read, and was it read only once?")
    if error.pos == 0:
        return begins_with(error.doc)
    return say(
        "the header that you give to json is cut off: is its length right, and does it count from byte 8?"
    )
