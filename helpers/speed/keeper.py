"""Run a command, and end it with everything that it started as soon as whoever asked for it is gone.

    python helpers/speed/keeper.py COMMAND ...

`helpers.speed.processes` starts this program with a pipe as its standard input and holds the other end. A
pipe is closed when its holder closes it, and also when its holder ends in any way: a notebook kernel that
was restarted, interrupted or killed leaves no server behind that keeps the memory of a GPU.

It imports nothing of the course, and no torch: it is there in a moment, and takes next to no memory.
"""

import contextlib
import os
import subprocess
import sys
import threading

import psutil  # comes with accelerate and with ipykernel

GRACE = 5  # seconds in which a process may end by itself after SIGTERM
BY_SIGNAL = 128  # what a shell adds to the number of the signal that ended a command


def end_tree(pid: int) -> None:
    """End a process and all that it started: first politely, then, after `GRACE` seconds, for good."""
    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        send(process.terminate)
    _, alive = psutil.wait_procs(tree, timeout=GRACE)
    for process in alive:
        send(process.kill)


def send(signal_sender) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        signal_sender()


def end_when_told(pid: int, told: threading.Event) -> None:
    """Wait until standard input is closed, then end the command."""
    # Not sys.stdin.read(): at its own end Python waits for the lock that a thread holds in there.
    while os.read(0, 1):
        pass
    told.set()
    end_tree(pid)


def exit_status(code: int) -> int:
    """Exit status for a command's return code, which is minus the number of the signal that ended it."""
    if code < 0:
        return BY_SIGNAL - code
    return code


def main() -> None:
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    told = threading.Event()
    ender = threading.Thread(target=end_when_told, args=(process.pid, told), daemon=True)
    ender.start()
    code = process.wait()
    if told.is_set():
        ender.join()  # the command has ended, what it started perhaps not yet
    sys.exit(exit_status(code))


if __name__ == "__main__":
    main()
