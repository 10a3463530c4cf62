"""Start a command that ends in JupyterLab, read what it prints, ask its page, and end it."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

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


@pytest.fixture
def run(tmp_path):
    """run(command, folder, environment) starts a command; whatever is left of it is killed at the end."""
    started = []

    def start(command, folder, environment):
        started.append(Run(command, folder, environment, tmp_path / f"log{len(started)}"))
        return started[-1]

    yield start
    for one in started:
        one.kill()


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


@pytest.fixture
def check_page():
    """check_page(address): JupyterLab's page with the notebook; only with the token, only on 127.0.0.1."""

    def check(address: str) -> None:
        status, text = page(address)
        assert status == 200 and "<title>JupyterLab</title>" in text
        base, _, rest = address.partition("/lab/tree/")
        file, _, token = rest.partition("?")
        status, text = page(f"{base}/api/contents/{file}?content=0&{token}")
        assert status == 200 and "04_inference.ipynb" in text
        without_token, _ = page(f"{base}/lab/tree/{file}")
        assert without_token == 302, "without the token there is only the page that asks for it"
        assert page(f"{base}/api/contents/{file}")[0] == 403
        # All of 127.x.x.x is this machine on Linux: a server that listens everywhere would answer there too.
        port = int(base.rpartition(":")[2])
        assert is_open("127.0.0.1", port)
        assert not is_open("127.0.0.2", port), "it listens on other addresses than 127.0.0.1"

    return check


@pytest.fixture
def wait_until():
    """wait_until(is_so): wait until this function returns something true."""

    def wait(is_so: Callable[[], object]) -> None:
        end = time.monotonic() + UNTIL_READY
        while time.monotonic() < end:
            if is_so():
                return
            time.sleep(0.1)
        raise AssertionError(f"not so after {UNTIL_READY} s")

    return wait


@pytest.fixture
def start_kernel(wait_until):
    """start_kernel(address, folder): start a kernel, as a notebook does when it is opened.

    `folder` is where Jupyter writes down its kernels; returns the file of this one, there while it runs.
    """

    def start(address: str, folder: Path) -> Path:
        base, _, rest = address.partition("/lab/tree/")
        kernels = f"{base}/api/kernels?{rest.rpartition('?')[2]}"
        status, _ = page(urllib.request.Request(kernels, data=b'{"name": "python3"}'))
        assert status == 201
        wait_until(lambda: list(folder.glob("kernel-*.json")))
        return next(folder.glob("kernel-*.json"))

    return start


@pytest.fixture
def check_end():
    """check_end(run, port): Ctrl-C ends all of it."""

    def check(one: Run, port: int) -> None:
        assert one.end() == 0, one.text()
        assert not one.has_processes(), "something still runs"
        assert not is_open("127.0.0.1", port)

    return check
