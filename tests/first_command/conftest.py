"""What a test of the first command does with a run: ask its page, start a kernel, press Ctrl-C."""

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_run import UNTIL_READY, Run, is_open, page


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
