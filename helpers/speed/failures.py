"""Say in one sentence why a launch of several processes failed: which process it was, if that is known.

When one process dies, the others lose their connection to it and fail too, a moment later or earlier in the
eyes of torchrun. So a process is named only if it alone failed, or it alone was killed.
"""

import json
import signal
import time
from pathlib import Path

from helpers import CourseError
from helpers.language import say
from helpers.speed.processes import port_taken

STILL = 3.0  # seconds without a heartbeat, of which there are two a second, after which a process has hung


class LaunchError(CourseError):
    """A launch that failed. `log`: all that its processes wrote; `rank`: the one that failed, if known."""

    def __init__(self, sentence: str, log: str, rank: int | None = None):
        super().__init__(sentence)
        self.log = log
        self.rank = rank


def failed_launch(exchange: Path, log: str) -> CourseError:
    """The error for a launch in which a node has failed."""
    for file in sorted(exchange.glob("node_*.port")):
        return port_taken(int(file.read_text(encoding="utf-8")))
    for file in sorted(exchange.glob("node_*.address")):
        return CourseError(
            say(
                "The first node cannot listen on {address}: give an address that it has itself, such as "
                "127.0.0.1 where all nodes are on this computer.",
                address=file.read_text(encoding="utf-8"),
            )
        )
    codes = exit_codes(exchange)
    killed = [rank for rank, code in codes.items() if code < 0]
    if len(killed) == 1:
        rank = killed[0]
        sentence = say(
            "Process {rank} was killed ({signal}), and the others were ended: look for what killed it, most "
            "often a lack of memory, then start again.",
            rank=rank,
            signal=signal.Signals(-codes[rank]).name,
        )
        return LaunchError(sentence, log, rank)
    if len(codes) == 1:
        rank = next(iter(codes))
        sentence = say(
            "Process {rank} failed ({words}), and the others were ended: the whole message is in the log of "
            "this error.",
            rank=rank,
            words=words_of(exchange, rank),
        )
        return LaunchError(sentence, log, rank)
    if codes:
        sentence = say(
            "{count} processes failed, one because of another, and the rest were ended: their messages are "
            "in the log of this error.",
            count=len(codes),
        )
    else:
        sentence = say(
            "torchrun ended before its processes did: what it wrote is in the log of this error.",
        )
    return LaunchError(sentence, log)


def late_launch(exchange: Path, processes: int, patience: float, log: str) -> LaunchError:
    """The error for a launch that has not finished in time."""
    hung = hung_ranks(exchange, processes)
    if len(hung) == 1:
        sentence = say(
            "Process {rank} hangs ({step}), and after {seconds:.0f} s all were ended: the log of this error "
            "holds what they wrote.",
            rank=hung[0],
            step=step_of(exchange, hung[0]),
            seconds=patience,
        )
        return LaunchError(sentence, log, hung[0])
    sentence = say(
        "The processes had not finished after {seconds:.0f} s, and all were ended: give them more time "
        "(patience=...), or read the log of this error.",
        seconds=patience,
    )
    return LaunchError(sentence, log)


def exit_codes(exchange: Path) -> dict[int, int]:
    """Exit code of each process that failed, as torchrun saw it; minus its number where a signal ended it.

    When one has failed, torchrun ends the others with SIGTERM: those are left out.
    """
    codes: dict[int, int] = {}
    for file in sorted(exchange.glob("node_*.json")):
        for rank, code in json.loads(file.read_text(encoding="utf-8")).items():
            codes[int(rank)] = code
    by_themselves = {rank: code for rank, code in codes.items() if code != -signal.SIGTERM}
    return dict(sorted((by_themselves or codes).items()))


def words_of(exchange: Path, rank: int) -> str:
    """The error that a process has written down; its last step if it had no time to."""
    file = exchange / f"rank_{rank}.error"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return step_of(exchange, rank)


def step_of(exchange: Path, rank: int) -> str:
    """What a process was doing last, as in `3 loading tensor`; the number says how far it had come."""
    file = exchange / f"rank_{rank}.step"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return "0 starting"


def hung_ranks(exchange: Path, processes: int) -> list[int]:
    """The processes for which the others wait: those without a heartbeat, else those furthest back."""
    silent = []
    steps = []
    for rank in range(processes):
        steps.append(int(step_of(exchange, rank).split()[0]))
        file = exchange / f"rank_{rank}.alive"
        if not file.is_file() or time.time() - file.stat().st_mtime > STILL:
            silent.append(rank)
    if silent:
        return silent
    return [rank for rank in range(processes) if steps[rank] == min(steps)]
