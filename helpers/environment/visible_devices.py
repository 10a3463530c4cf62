"""Which GPUs CUDA lets a program use, and in which order: CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER.

nvidia-smi lists every GPU and does not care for these variables; torch, and so the planner, sees only what
they leave. The rules are CUDA's ("CUDA environment variables" in its programming guide; torch reads them the
same way): a list of numbers, or of UUIDs of which the beginning is enough; the first entry that names no GPU
ends the list; an entry that comes twice leaves nothing.
"""

import os
import re
from typing import NamedTuple

from helpers.language import say

VARIABLE = "CUDA_VISIBLE_DEVICES"
SHOWN = 40  # characters of a wrong entry


class Visible(NamedTuple):
    """Positions of the GPUs that programs can use, in CUDA's order, and what is wrong with the setting."""

    positions: list[int]
    problem: str


def visible_devices(uuids: list[str], strengths: list[float]) -> Visible:
    """What the environment's settings leave of these GPUs, given in the order of nvidia-smi.

    `uuids`: "" where one is not known. `strengths`: the larger, the faster a GPU presumably is; unless
    CUDA_DEVICE_ORDER is PCI_BUS_ID, CUDA counts the fastest GPU as 0.
    """
    order = list(range(len(uuids)))
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        order.sort(key=lambda position: -strengths[position])
    setting = os.environ.get(VARIABLE)
    if setting is None or not uuids:
        return Visible(order, "")
    entries = [entry.strip() for entry in setting.split(",")]
    if entries[0] in ("", "-1", "NoDevFiles"):  # usual ways to hide all GPUs
        return Visible([], "")
    found = [_position(entry, uuids, order) for entry in entries]
    named = []
    for position in found:
        if position is None:
            break
        named.append(position)
    if len(set(named)) < len(named):
        return Visible([], say("{variable} names a GPU twice, which leaves none", variable=VARIABLE))
    if len(named) < len(entries):
        problem = say(
            "{variable} names {entry!r}, which is not here: CUDA stops before it",
            variable=VARIABLE,
            entry=entries[len(named)][:SHOWN],
        )
        return Visible(named, problem)
    return Visible(named, "")


def _position(entry: str, uuids: list[str], order: list[int]) -> int | None:
    """Position of the GPU that an entry of CUDA_VISIBLE_DEVICES names; None if there is no such GPU."""
    if entry.startswith(("GPU-", "MIG-")):
        matches = [position for position, uuid in enumerate(uuids) if uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    number = re.match(r"\+?\d+", entry)
    if number and int(number[0]) < len(order):
        return order[int(number[0])]
    return None


def short_names(uuids: list[str]) -> list[str]:
    """The beginning of each UUID that is enough to tell it from the others, 12 characters or more."""
    names = []
    for uuid in uuids:
        length = 12
        while length < len(uuid) and sum(other.startswith(uuid[:length]) for other in uuids) > 1:
            length += 1
        names.append(uuid[:length])
    return names
