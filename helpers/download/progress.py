"""What a learner sees while something takes long: bars over bytes, and who is waited for, and how long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from helpers import GB
from helpers.language import say

QUIET = 1  # seconds; a bar that would be gone by then is not drawn
SILENT = 2  # seconds; a wait that is over by then is not announced
STEP = 0.5  # seconds between two looks
MINUTE = 60  # seconds
HOUR = 60 * MINUTE


def size_text(count: float) -> str:
    """Bytes for reading, in GB or MB (10^9, 10^6)."""
    if count >= GB:
        return f"{count / GB:.2f} GB"
    return f"{count / 1e6:.2f} MB"


def time_text(seconds: float) -> str:
    """A time for reading, in seconds, minutes or hours."""
    if seconds >= 2 * HOUR:
        return say("{count:.0f} hours", count=seconds / HOUR)
    if seconds >= 2 * MINUTE:
        return say("{count:.0f} minutes", count=seconds / MINUTE)
    return say("{count:.0f} seconds", count=seconds)


def byte_bar(total: int, here: int = 0, what: str = "", delay: float = QUIET) -> tqdm:
    """A bar over bytes, of which some are `here` already; drawn after `delay` seconds."""
    return tqdm(total=total, initial=here, desc=what, unit="B", unit_scale=True, delay=delay, leave=False)


@contextmanager
def every_half_second(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` again and again in the background, until the block is left."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(STEP):
            look()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """After two seconds show what is being waited for and for how long; gone when it is over."""
    start = time.monotonic()
    lines = []  # drawn on first need: a line that would be gone at once is not

    def show() -> None:
        seconds = time.monotonic() - start
        if seconds < SILENT:
            return
        if not lines:
            lines.append(tqdm(bar_format="{desc}", leave=False))
        lines[0].set_description_str(say("{what}, {time}", what=what, time=time_text(seconds)))

    try:
        with every_half_second(show):
            yield
    finally:
        for line in lines:
            line.close()
