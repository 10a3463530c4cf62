"""A child ends with its parent, however that ends; ports that are taken are refused in one sentence."""

import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from helpers import CourseError
from helpers.speed.processes import (
    FREE_PORTS,
    KEEPER,
    LOOPBACK,
    Child,
    PortTakenError,
    check_port,
    free_port,
    python_file,
    start_on,
)

PATIENCE = 120  # seconds: a safety net far from the usual time

SLEEP = "import time; time.sleep(600)"

#: Starts the program that follows, prints its number, and waits for it.
NURSE = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(process.pid, flush=True)
process.wait()
"""

#: Starts a child that starts a grandchild, prints the number of the latter, and does nothing for long.
PARENT = """
import sys, time
from helpers.speed.processes import Child
child = Child([sys.executable, "-c", *sys.argv[1:]])
while not child.log().endswith("\\n"):
    time.sleep(0.05)
print(child.log().strip(), flush=True)
time.sleep(600)
"""

#: Says that it runs, and does not listen when it is asked to end.
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("here", flush=True)
time.sleep(600)
"""


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the process still runs"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_parent_ends(how):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, NURSE, SLEEP],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        grandchild = int(parent.stdout.readline())
        assert psutil.pid_exists(grandchild)
        parent.send_signal(how)
        parent.wait(PATIENCE)
        wait_until_gone(grandchild)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_a_child_that_does_not_listen_is_ended_too():
    child = Child([sys.executable, "-c", DEAF])
    while not child.log():
        time.sleep(0.05)
    child.end()
    assert child.exit_status == 128 + signal.SIGKILL
    child.end()  # once more does nothing


def test_what_a_child_writes_is_kept_and_so_is_its_exit_status():
    program = "import sys; print('out', flush=True); print('err\\n', file=sys.stderr); sys.exit(3)"
    child = Child([sys.executable, "-c", program])
    child.wait(PATIENCE)
    assert child.log() == "out\nerr\n\n"
    assert child.last_words() == "err"
    assert child.exit_status == 3
    child.end()


def test_the_keeper_of_a_child_imports_nothing_that_takes_long():
    start, *file = python_file(KEEPER)
    command = [start, "-X", "importtime", *file, sys.executable, "-c", "print('here')"]
    run = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=PATIENCE)
    assert "psutil" in run.stderr
    assert not {"torch", "transformers", "pandas", "helpers"} & set(run.stderr.split())


def test_a_child_gets_the_course_and_its_variables_and_asks_no_hub():
    program = "import os, helpers; print(os.environ['A'], os.environ['HF_HUB_OFFLINE'])"
    child = Child([sys.executable, "-c", program], A="b")
    child.wait(PATIENCE)
    assert child.last_words() == "b 1"
    child.end()


def test_a_port_in_use_and_a_number_that_is_none():
    check_port(free_port())
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        with pytest.raises(CourseError, match=r"^Port \d+ cannot be used"):
            check_port(other.getsockname()[1])
    with pytest.raises(CourseError, match="Port 70000 cannot be used"):
        check_port(70_000)
    for none in (0, -1, "8000", 80.5):
        with pytest.raises(CourseError, match=f"port is {none!r}: give a whole number from 1 on"):
            check_port(none)


def test_how_many_ports_are_tried():
    """None but free ones, as many as `FREE_PORTS`; the one that was asked for, once."""
    tried = []

    def start(port):
        tried.append(port)
        check_port(port)
        if len(tried) < FREE_PORTS:
            raise PortTakenError("somebody was faster")
        return "started"

    assert start_on(None, start) == "started"
    assert len(set(tried)) == FREE_PORTS

    tried.clear()
    with pytest.raises(PortTakenError):
        start_on(free_port(), start)
    assert len(tried) == 1

    def never(port):
        raise PortTakenError("somebody is always faster")

    with pytest.raises(PortTakenError, match="always"):
        start_on(None, never)
