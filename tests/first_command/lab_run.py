"""Start a command that ends in JupyterLab, read what it prints, ask its page, and end it."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/lab/tree/notebooks/en/04_inference\.ipynb\?token=\w{20,}")

# Safety nets, in seconds: a slow machine or a slow network makes a test slow, not red.
UNTIL_READY = 1500
UNTIL_ENDED = 120


class Run:
    """A command in a process group of its own, and what it has printed so far."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], log: Path):
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: re.Pattern) -> re.Match:
        """Wait until the command has printed this; fails with all it printed if it ends before."""
        end = time.monotonic() + UNTIL_READY
        while time.monotonic() < end:
            has_ended = self.process.poll() is not None
            found = pattern.search(self.text())
            if found:
                return found
            assert not has_ended, f"it ended with code {self.process.returncode}:\n{self.text()}"
            time.sleep(0.2)
        raise AssertionError(f"not printed in {UNTIL_READY} s: {pattern.pattern}\n{self.text()}")

    def end(self) -> int:
        """Press Ctrl-C: the signal goes to the whole group, as in a terminal. Returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(UNTIL_ENDED)

    def has_processes(self) -> bool:
        """Whether anything of the group still runs."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def page(address: str | urllib.request.Request) -> tuple[int, str]:
    """Status and text of a page, without following redirects and without a proxy."""

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
    try:
        with opener.open(address, timeout=UNTIL_ENDED) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def is_open(host: str, port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(UNTIL_ENDED)
        return connection.connect_ex((host, port)) == 0
