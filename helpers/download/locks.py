"""Another process that is at work on the same files: who it is, since when it runs, and how to end it.

ModelScope's client locks each file that it fetches and waits for a lock without a word. Here the lock is
looked at first, and its holder is named.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.compat import client_lock_file
from helpers.download.manifest import ModelFile
from helpers.download.place import Place
from helpers.download.progress import STEP, time_text, waiting
from helpers.language import say


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock: its number, its command line, and how many seconds ago it was started."""

    pid: int
    command: str
    seconds: float


def wait_for_others(place: Place, files: list[ModelFile]) -> None:
    """Wait until no other process fetches any of these files, and say for whom. Ctrl-C ends the waiting."""
    told = set()  # numbers of processes; None for one that cannot be seen
    while True:
        held = first_held(place, files)
        if held is None:
            return
        holder = find_holder(held)
        pid = None
        what = say("waiting for another process")
        if holder is not None:
            pid = holder.pid
            what = say("waiting for process {pid}", pid=pid)
        if pid not in told:
            print(describe(holder, held), flush=True)
            told.add(pid)
        with waiting(what):
            while is_held(held):
                time.sleep(STEP)


def lock_files(place: Place, files: list[ModelFile]) -> list[Path]:
    """The locks of these files, for either spelling of the model's id; none if the client's locks are off."""
    locks = []
    for file in files:
        for model_id in sorted({place.model_id, place.spelling}):
            lock = client_lock_file(place.cache, model_id, file.path)
            if lock is not None:
                locks.append(lock)
    return locks


def first_held(place: Place, files: list[ModelFile]) -> Path | None:
    """The first lock of these files that somebody holds; None if there is none."""
    for lock in lock_files(place, files):
        if is_held(lock):
            return lock
    return None


def other_holder(place: Place, files: list[ModelFile]) -> Holder | None:
    """Another process than this one that holds a lock of these files, as far as it can be seen."""
    for lock in lock_files(place, files):
        if is_held(lock):
            holder = find_holder(lock)
            if holder is not None and holder.pid != os.getpid():
                return holder
    return None


def is_held(lock: Path) -> bool:
    """Whether somebody holds the lock right now; OSError where the file system has no locks."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def describe(holder: Holder | None, lock: Path) -> str:
    """One sentence: who is at work, since when, and how to end it."""
    if holder is None:
        return say(
            "Another process, which cannot be seen from here, is downloading this model: waiting for it "
            "(Ctrl-C stops the waiting; if there is none any more, delete {lock}).",
            lock=lock,
        )
    values = {"pid": holder.pid, "command": holder.command, "time": time_text(holder.seconds)}
    if holder.pid == os.getpid():
        return say(
            "Process {pid} ({command}, running for {time}) is downloading this model: waiting for it, "
            "nothing is fetched twice (Ctrl-C stops the waiting; that is this very program: restart it, in a "
            "notebook its kernel, and what has arrived stays).",
            **values,
        )
    if "ipykernel" in holder.command:
        return say(
            "Process {pid} ({command}, running for {time}) is downloading this model: waiting for it, "
            "nothing is fetched twice (Ctrl-C stops the waiting; it is a notebook's kernel: interrupt it "
            "there, or shut it down, and what has arrived stays).",
            **values,
        )
    return say(
        "Process {pid} ({command}, running for {time}) is downloading this model: waiting for it, nothing is "
        "fetched twice (Ctrl-C stops the waiting; `kill {pid}` ends it, and what has arrived stays).",
        **values,
    )


def find_holder(lock: Path) -> Holder | None:
    """The process that holds a lock, as far as /proc shows it (Linux)."""
    for pid in (pid_of_lock(lock), pid_in_file(lock), pid_with_file_open(lock)):
        if pid is not None:
            return read_process(pid)
    return None


def pid_of_lock(lock: Path) -> int | None:
    """The process in the kernel's table of locks: `1: FLOCK  ADVISORY  WRITE 1234 fe:00:567 0 EOF`."""
    try:
        inode = lock.stat().st_ino
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    for line in table.splitlines():
        found = re.fullmatch(r"\d+: FLOCK\s+\S+\s+\S+\s+(\d+) \w+:\w+:(\d+) .*", line)
        if found and int(found[2]) == inode and is_running(int(found[1])):
            return int(found[1])
    return None


def pid_in_file(lock: Path) -> int | None:
    """The process that wrote its number into the lock: where the file system has no real ones."""
    try:
        first = lock.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return None
    if first.isdecimal() and is_running(int(first)):
        return int(first)
    return None


def pid_with_file_open(lock: Path) -> int | None:
    """Another process that has the lock's file open: in some containers nothing else can be seen."""
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        pid = int(entry.parts[2])
        try:
            if pid != os.getpid() and os.readlink(entry) == str(lock.resolve()):
                return pid
        except OSError:  # another user's process, or one that has just ended
            continue
    return None


def is_running(pid: int) -> bool:
    """Whether a process of this number can be seen from here."""
    return pid > 0 and Path(f"/proc/{pid}").exists()


def read_process(pid: int) -> Holder:
    """Command line and age of a process; what cannot be read is left open."""
    command = say("its command cannot be read")
    seconds = 0.0
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        command = " ".join(words).strip()[:120] or command
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # seconds after the start of the machine
        seconds = float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError):
        pass
    return Holder(pid, command, max(seconds, 0.0))
