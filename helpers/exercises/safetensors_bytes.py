"""A small safetensors file with known bytes, and the mistakes that people make when they read it by hand.

The file: 8 bytes with the length of the header (little endian), the header (JSON, padded with spaces), then
the bytes of the tensors. The offsets in the header count from the end of the header.
"""

import json
import random
from pathlib import Path
from typing import NamedTuple

from helpers.language import say, to_say

PREFIX = 8  # bytes in front of the header, which hold its length

#: dtype, shape and bytes of a number of each tensor. The first has no number before it, the others do.
TENSORS = {
    "first": ("BF16", [6, 10], 2),
    "second": ("BF16", [8, 12], 2),
    "third": ("F32", [5, 7], 4),
    "last": ("BF16", [4, 9], 2),
}


class Example(NamedTuple):
    """A file written for a check.

    path: where it is. header: length of the JSON in bytes. offsets: begin and end of each tensor, as the
    header says them. content: all bytes of the file.
    """

    path: Path
    header: int
    offsets: dict[str, tuple[int, int]]
    content: bytes

    def data(self, name: str) -> bytes:
        """The bytes of a tensor, as they should be read."""
        begin, end = self.offsets[name]
        start = PREFIX + self.header
        return self.content[start + begin : start + end]


def write_example(folder: Path, padding: int) -> Example:
    """Write the file into the folder; `padding`: further spaces that make the header longer."""
    entries = {"__metadata__": {"format": "pt"}}
    offsets = {}
    end = 0
    for name, (dtype, shape, width) in TENSORS.items():
        begin = end
        end = begin + shape[0] * shape[1] * width
        offsets[name] = (begin, end)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode() + b" " * padding
    numbers = random.Random(padding).randbytes(end)  # no two pieces of it are alike
    content = len(header).to_bytes(PREFIX, "little") + header + numbers
    path = folder / f"example-{padding}.safetensors"
    path.write_bytes(content)
    return Example(path, len(header), offsets, content)


class Reading(NamedTuple):
    """A way to read a tensor wrongly: where it begins and ends in the file, and a hint."""

    start: int
    end: int
    hint: str


def wrong_readings(example: Example, name: str) -> list[Reading]:
    """The typical mistakes in reading a tensor of the example, likely ones first."""
    return wrong_places(example, name) + wrong_lengths(example, name)


def wrong_places(example: Example, name: str) -> list[Reading]:
    """Readings that begin at the wrong place of the file."""
    begin, end = example.offsets[name]
    numbers = PREFIX + example.header  # where the tensors' bytes start
    return [
        Reading(
            begin,
            end,
            to_say("you counted the offsets from the start of the file. From where do they count?"),
        ),
        Reading(
            PREFIX + begin,
            PREFIX + end,
            to_say("the 8 bytes of the length are taken into account, the header itself is not."),
        ),
        Reading(
            example.header + begin,
            example.header + end,
            to_say(
                "your bytes begin too early. The header does not begin at byte 0 of the file: what is before "
                "it?"
            ),
        ),
        Reading(
            numbers,
            numbers + end - begin,
            to_say("you read right behind the header, but other tensors stand before this one."),
        ),
    ]


def wrong_lengths(example: Example, name: str) -> list[Reading]:
    """Readings of too much or too little, and of what is no tensor at all."""
    begin, end = example.offsets[name]
    size = end - begin
    numbers = PREFIX + example.header  # where the tensors' bytes start
    right = numbers + begin
    shape = TENSORS[name][1]
    count = shape[0] * shape[1]
    return [
        Reading(
            right, right + end, to_say("you read as many bytes as the second offset says. Is it a length?")
        ),
        Reading(
            right,
            right + size + 1,
            to_say("one byte too many: is the second offset the last byte, or the next?"),
        ),
        Reading(
            right,
            right + size - 1,
            to_say("one byte is missing: is the second offset the last byte, or the next?"),
        ),
        Reading(right, right + 4 * count, to_say("you took 4 bytes a number. What does dtype say?")),
        Reading(right, right + 2 * count, to_say("you took 2 bytes a number. Is that so for every dtype?")),
        Reading(right, right + count, to_say("you took one byte a number. What does dtype say?")),
        Reading(
            right,
            len(example.content),
            to_say("you read to the end of the file, not to the end of the tensor."),
        ),
        Reading(0, len(example.content), to_say("that is the whole file.")),
        Reading(PREFIX, numbers, to_say("that is the header. The numbers come behind it.")),
    ]


def mistake_in(data: bytes, example: Example, name: str) -> str:
    """What is wrong with bytes that were read for a tensor; "" if nothing is."""
    right = example.data(name)
    if data == right:
        return ""
    for reading in wrong_readings(example, name):
        if data == example.content[reading.start : reading.end]:
            return say(reading.hint)
    if data == right[::-1]:
        return say("the bytes are right and their order is reversed: give them as they stand in the file.")
    place = example.content.find(data)
    if not data:
        return say("no bytes came. Perhaps you read past the end of the file?")
    if len(data) == len(right) and place >= 0:
        return say("the number of bytes is right, and they begin at the wrong place of the file.")
    if place >= 0:
        return say("that is a piece of the file, and neither its place nor its length fits.")
    return say("these bytes stand nowhere in the file.")
