"""Child processes that end with their parent, whatever happens to it, and the ports of this computer."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from helpers import CourseError
from helpers.language import say
from helpers.speed.arguments import check_whole

LOOPBACK = "127.0.0.1"  # programs on other computers cannot reach this address
COURSE_FOLDER = Path(__file__).parents[2]
KEEPER = Path(__file__).with_name("keeper.py")
END_PATIENCE = 30  # seconds for the keeper to end a command, which it does within 5
FREE_PORTS = 3  # as many free ports are tried, when other programs are faster
Started = TypeVar("Started")


class PortTakenError(CourseError):
    """Nobody can listen on the port that a program was told to take."""


class Child:
    """A command that runs in the background until it ends, `end()` is called, or this program ends."""

    def __init__(self, command: Sequence[str], **variables: str):
        """Start `command`; `variables` are set in its environment, beside those of this program."""
        # A file without a name: it is gone with the last program that has it open.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [*python_file(KEEPER), *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment(variables),
            start_new_session=True,  # Ctrl-C in the terminal is for this program, which then ends the child
        )

    @property
    def pid(self) -> int:
        """Number of the keeper, whose child the command is."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; as in a shell, 128 + n if signal n ended it."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, but not longer than this."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def log(self) -> str:
        """What it has written so far, to standard output and standard error."""
        descriptor = self._log.fileno()
        # pread leaves the place alone at which the child goes on writing.
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return text.decode("utf-8", "replace")

    def last_words(self) -> str:
        """The last line that it has written, without the time and such in front; "" if there is none."""
        lines = [line.strip() for line in self.log().splitlines() if line.strip()]
        if not lines:
            return ""
        return lines[-1]

    def end(self) -> None:
        """End it and everything that it started. Nothing happens if it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # the keeper reads this as "end it"
        try:
            self._process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:  # the keeper itself was stopped
            self._process.kill()
            self._process.wait()


def python_file(file: Path) -> list[str]:
    """The command that runs a file of this package without the package, whose import takes seconds."""
    return [sys.executable, "-P", str(file)]  # -P: the folder of the file is no place to import from


def environment(variables: dict[str, str]) -> dict[str, str]:
    """The environment of a child: this program's, the course's code, no questions to a hub, `variables`."""
    found = dict(os.environ)
    known = found.get("PYTHONPATH", "")
    found["PYTHONPATH"] = os.pathsep.join(path for path in (str(COURSE_FOLDER), known) if path)
    found["HF_HUB_OFFLINE"] = "1"  # else an unknown model is looked for in the net, for minutes
    found["PYTHONUNBUFFERED"] = "1"
    found.update(variables)
    return found


def free_port() -> int:
    """A port of this computer that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def start_on(port: int | None, start: Callable[[int], Started]) -> Started:
    """Start a program that listens on this port (None: a free one), and return what `start(port)` returns.

    A free port is only free until another program asks for one, and it takes seconds until the program that
    was started listens on it. So when `start` raises PortTakenError, another free port is tried, up to
    `FREE_PORTS`. A port that was asked for is not replaced.
    """
    if port is not None:
        return start(port)
    for _ in range(FREE_PORTS - 1):
        try:
            return start(free_port())
        except PortTakenError:
            continue
    return start(free_port())


def check_port(port: int) -> None:
    """CourseError if nobody can listen on this port of 127.0.0.1. Port 0 would become any free one."""
    check_whole("port", port, least=1)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, else it rests a minute
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise port_taken(port) from error


def port_taken(port: int) -> PortTakenError:
    """The sentence for a port on which nobody can listen."""
    return PortTakenError(
        say(
            "Port {port} cannot be used, most likely because another program listens on it: stop that one, "
            "or name another port from 1024 to 65535.",
            port=port,
        )
    )
