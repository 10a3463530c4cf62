"""The checks of notebook 03: right answers, and for each typical mistake the reason that it gets."""

import json
import os

import pytest
from answers import assert_right, assert_wrong

from helpers.download.local_hub import LocalHub
from helpers.exercises.download import (
    RIGHT_SPEED,
    SPEED_MISTAKES,
    check_line,
    check_read_tensor,
    check_silent_damage,
    check_tampered,
)

EMPTY = "put your answer into this cell"


# Exercise 1


@pytest.mark.parametrize("speed", [RIGHT_SPEED, 190.9, 191, 190])
def test_the_right_line(speed, capsys):
    assert_right(check_line(speed), "a provider promises", capsys)


def test_the_right_line_is_what_the_notebook_counts():
    assert pytest.approx(14_315_784_192 * 2 * 8 / 1200 / 1e6) == RIGHT_SPEED


@pytest.mark.parametrize("speed", SPEED_MISTAKES)
def test_each_mistake_about_the_line_gets_its_reason(speed, capsys):
    assert_wrong(check_line(speed), SPEED_MISTAKES[speed], capsys, ["190.9", "191.0"])


@pytest.mark.parametrize(
    ("speed", "reason"),
    [
        (23.86, "a byte has 8 bits"),
        (100, "too small"),
        (300, "too large"),
        ("191 Mbit/s", "a number of Mbit/s is asked for, not str"),
        (True, "not bool"),
        (0, "is no speed"),
        (float("nan"), "is no speed"),
        (None, EMPTY),
        (..., EMPTY),
    ],
)
def test_other_wrong_lines(speed, reason, capsys):
    assert_wrong(check_line(speed), reason, capsys, ["190.9", "191.0"])


# Exercise 2


def flip(file, put_time_back):
    """Change the last bit of a file, and put its old time of change back if asked for."""
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    changed = times.st_mtime_ns
    if not put_time_back:
        changed += 10**9  # one second later: the clock of a file system may be coarse
    os.utime(file, ns=(times.st_atime_ns, changed))


def test_the_silent_damage(toy, capsys):
    flip(toy / "config.json", put_time_back=True)
    for folder in (toy, str(toy)):
        assert_right(check_silent_damage(folder), "verify passes over it", capsys, ["full", "config.json"])


def test_no_damage(toy, capsys):
    assert_wrong(check_silent_damage(toy), "nothing is damaged there", capsys)
    flip(toy / "config.json", put_time_back=True)
    flip(toy / "config.json", put_time_back=True)
    assert_wrong(check_silent_damage(toy), "changed twice is as before", capsys)


def test_a_damage_with_a_new_time(toy, capsys):
    flip(toy / "config.json", put_time_back=False)
    assert_wrong(check_silent_damage(toy), "its time of change is new", capsys)


def test_a_damage_with_another_size(toy, capsys):
    with (toy / "config.json").open("ab") as file:
        file.write(b" ")
    assert_wrong(check_silent_damage(toy), "neither add nor remove one", capsys)


def test_no_folder_to_check(tmp_path, capsys):
    assert_wrong(check_silent_damage(tmp_path), "no folder with a manifest", capsys)
    assert_wrong(check_silent_damage(tmp_path / "gone"), "no folder with a manifest", capsys)
    assert_wrong(check_silent_damage(True), "is asked for, such as toy, not bool", capsys)
    assert_wrong(check_silent_damage(None), EMPTY, capsys)


# Exercise 3


def hub_that_lists(change):
    """A hub whose list is what `change` makes of the honest one."""

    class ChangedHub(LocalHub):
        def file_list(self):
            return change(super().file_list())

    return ChangedHub


def entry(path, **changes):
    """An entry of a list, with a usable size and sha256 unless `changes` says otherwise."""
    return {"Path": path, "Size": 10, "Sha256": "0" * 64} | changes


@pytest.mark.parametrize("path", ["../../.bashrc", "/etc/profile", "weights/../../x"])
def test_the_tampered_hub(path, capsys):
    tampered = hub_that_lists(lambda files: [*files, entry(path)])
    assert_right(check_tampered(tampered), "can list what it likes", capsys, ["refuse", "unsafe"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda files: None, "returns nothing yet"),
        (lambda files: ..., "returns nothing yet"),
        (lambda files: "../../.bashrc", "is to return a list, and returns str"),
        (lambda files: files, "nothing is added"),
        (lambda files: [entry("../../.bashrc")], "lacks 11 of the model's own files"),
        (lambda files: [*files, entry("bashrc")], "the plan accepts 'bashrc'"),
        (lambda files: [*files, entry("notes/.bashrc")], "it stays inside the model's folder"),
        (lambda files: [*files, "../../.bashrc"], "an entry is a dictionary such as"),
        (lambda files: [*files, {"path": "../../.bashrc"}], "an entry is a dictionary such as"),
        (lambda files: [*files, {"Path": "../../.bashrc"}], "for another reason"),
        (lambda files: [*files, entry("bashrc", Sha256="0")], "for another reason"),
    ],
)
def test_hubs_that_are_not_tampered(change, reason, capsys):
    assert_wrong(check_tampered(hub_that_lists(change)), reason, capsys)


def test_a_hub_that_fails(capsys):
    def fail(files):
        raise NameError("name 'extra' is not defined")

    assert_wrong(check_tampered(hub_that_lists(fail)), "NameError: name 'extra' is not defined", capsys)
    assert_wrong(check_tampered(hub_that_lists(fail)()), "give the class itself", capsys)
    assert_wrong(check_tampered(dict), "a class derived from LocalHub", capsys)
    assert_wrong(check_tampered(["../../.bashrc"]), "a class derived from LocalHub", capsys)
    assert_wrong(check_tampered(None), EMPTY, capsys)


# Exercise 4


def reader(
    order="little",
    prefix=8,
    begin_at=lambda length, begin: 8 + length + begin,
    count=lambda header, name, begin, end: end - begin,
    answer=lambda shape, data: (shape, data),
):
    """A function as a learner writes it; each argument is a place where it can be wrong."""

    def read_tensor(path, name):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(prefix), order)
            header = json.loads(file.read(length))
            begin, end = header[name]["data_offsets"]
            file.seek(begin_at(length, begin))
            data = file.read(count(header, name, begin, end))
        return answer(header[name]["shape"], data)

    return read_tensor


def numbers_of(header, name):
    """How many numbers a tensor of the header has."""
    rows, columns = header[name]["shape"]
    return rows * columns


def slices(big_end=False, extra=0, start=8):
    """A function that reads the whole file first and cuts it."""

    def read_tensor(path, name):
        content = path.read_bytes()
        order = "big" if big_end else "little"
        length = int.from_bytes(content[:8], order)
        header = json.loads(content[start : start + length + extra])
        begin, end = header[name]["data_offsets"]
        return header[name]["shape"], content[8 + length + begin : 8 + length + end]

    return read_tensor


def first_entry(path, name):
    """Takes the first entry of the header, whatever its name."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for described in header.values():
        return described["shape"], described["data_offsets"]


def with_a_typed_length(path, name):
    """Has the length of another file's header typed in."""
    with open(path, "rb") as file:
        file.read(8)
        return json.loads(file.read(40))[name]["shape"], b""


def with_a_typed_name(path, name):
    """Reads the tensor that the notebook shows, whatever is asked for."""
    return reader()(path, "model.layers.0.mlp.experts.0.gate_proj.weight")


def with_a_typo(path, name):
    """Stops with an error that has nothing to do with the format."""
    return shpae, data  # noqa: F821


@pytest.mark.parametrize(
    "right", [reader(), slices(), reader(answer=lambda shape, data: [tuple(shape), data])]
)
def test_the_right_reader(right, capsys):
    assert_right(check_read_tensor(right), "two files and two types", capsys)


WRONG_READERS = {
    "big endian": (reader(order="big"), "In which order"),
    "big endian, whole file": (slices(big_end=True), "in which order"),
    "length of 4 bytes": (reader(prefix=4), "How many bytes stand before it?"),
    "no length before the header": (slices(start=0), "begins with"),
    "more than the header": (slices(extra=40), "runs on into the numbers"),
    "less than the header": (slices(extra=-60), "is its length right"),
    "from the file's start": (
        reader(begin_at=lambda length, begin: begin),
        "counted the offsets from the start of the file",
    ),
    "header forgotten": (
        reader(begin_at=lambda length, begin: 8 + begin),
        "the header itself is not",
    ),
    "length's own bytes forgotten": (
        reader(begin_at=lambda length, begin: length + begin),
        "your bytes begin too early",
    ),
    "begin forgotten": (
        reader(begin_at=lambda length, begin: 8 + length),
        "other tensors stand before this one",
    ),
    "end as length": (reader(count=lambda header, name, begin, end: end), "Is it a length?"),
    "one too many": (reader(count=lambda header, name, begin, end: end - begin + 1), "one byte too many"),
    "one missing": (reader(count=lambda header, name, begin, end: end - begin - 1), "one byte is missing"),
    "4 bytes a number": (
        reader(count=lambda header, name, begin, end: 4 * numbers_of(header, name)),
        "you took 4 bytes a number",
    ),
    "always 2 bytes a number": (
        reader(count=lambda header, name, begin, end: 2 * numbers_of(header, name)),
        "you took 2 bytes a number",
    ),
    "numbers for bytes": (
        reader(count=lambda header, name, begin, end: numbers_of(header, name)),
        "you took one byte a number",
    ),
    "to the end": (reader(count=lambda header, name, begin, end: -1), "to the end of the file"),
    "the whole file": (
        reader(begin_at=lambda length, begin: 0, count=lambda *_: -1),
        "that is the whole file",
    ),
    "past the end": (reader(begin_at=lambda length, begin: 10**6), "no bytes came"),
    "too late": (reader(begin_at=lambda length, begin: 10 + length + begin), "at the wrong place"),
    "a piece": (reader(count=lambda *_: 7), "neither its place nor its length fits"),
    "reversed": (reader(answer=lambda shape, data: (shape, data[::-1])), "their order is reversed"),
    "other bytes": (reader(answer=lambda shape, data: (shape, b"x" * len(data))), "stand nowhere"),
    "as numbers": (reader(answer=lambda shape, data: (shape, list(data))), "not list"),
    "exchanged": (reader(answer=lambda shape, data: (data, shape)), "shape comes first"),
    "bytes alone": (reader(answer=lambda shape, data: data), "two things are to be returned"),
    "a number as shape": (
        reader(answer=lambda shape, data: (shape[0] * shape[1], data)),
        "the list that the header holds, not int",
    ),
    "columns first": (reader(answer=lambda shape, data: (shape[::-1], data)), "are exchanged"),
    "one shape for all": (reader(answer=lambda shape, data: ([6, 10], data)), "the shape of 'first'"),
    "no shape": (reader(answer=lambda shape, data: ([], data)), "take it from the header's entry"),
    "first entry": (first_entry, "__metadata__"),
    "typed length": (with_a_typed_length, "is cut off"),
    "typed name": (with_a_typed_name, "Is a name typed in"),
    "typo": (with_a_typo, "your function stopped (NameError"),
    "nothing": (lambda path, name: None, "returns nothing yet"),
    "dots": (lambda path, name: ..., "returns nothing yet"),
}


@pytest.mark.parametrize("mistake", WRONG_READERS)
def test_each_wrong_reader_gets_its_reason(mistake, capsys):
    read_tensor, reason = WRONG_READERS[mistake]
    assert_wrong(check_read_tensor(read_tensor), reason, capsys)


def test_no_reader(capsys):
    assert_wrong(check_read_tensor(b"numbers"), "a function is asked for, not bytes", capsys)
    assert_wrong(check_read_tensor(None), EMPTY, capsys)
