"""Another process at work on the same files: it is named, waited for in public, and can be ended."""

import os
import signal
import subprocess
import sys
import time

import pytest
from stage import MODEL_ID, PATIENCE, SHARD, Pause, screen, wait_until

from helpers import CourseError
from helpers.compat import client_lock_file
from helpers.download import download, locks, manifest
from helpers.download.place import locate
from helpers.download.transfer import TransferBar

HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold():
    """A function that lets another process hold a lock, and returns that process."""
    processes = []

    def start(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", HOLD, str(lock)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def lock_of(cache, path=SHARD, model_id=MODEL_ID):
    """The file that the client locks."""
    return client_lock_file(cache, model_id, path)


@pytest.mark.parametrize("model_id", [MODEL_ID, "Somebody/Small-Model"])
def test_the_holder_is_named_and_ending_it_helps(stage, hold, model_id):
    (stage.cache / "models" / model_id.replace("/", "--")).mkdir(parents=True)
    holder = hold(lock_of(stage.cache, model_id=model_id))
    process = stage.start()
    wait_until(lambda: f"waiting for process {holder.pid}, " in screen(process))
    shown = screen(process)
    assert f"Process {holder.pid} (" in shown
    assert "running for" in shown
    assert f"`kill {holder.pid}` ends it" in shown
    os.kill(holder.pid, signal.SIGTERM)
    status, text = stage.finish(process)
    assert status == 0, text
    assert "6 files" in text


def test_waiting_can_be_ended(stage, hold):
    holder = hold(lock_of(stage.cache))
    process = stage.start()
    wait_until(lambda: f"Process {holder.pid} (" in screen(process))
    os.kill(process.pid, signal.SIGINT)
    status, text = stage.finish(process)
    assert status == 130, text
    assert holder.poll() is None


def test_a_second_download_names_the_first_and_fetches_nothing_twice(stage):
    pause = Pause()
    stage.hub.on_piece = pause
    first = stage.start()
    wait_until(lambda: f"{SHARD}.incomplete" in stage.on_disk())
    second = stage.start()
    wait_until(lambda: f"Process {first.pid} (" in screen(second))
    pause.go_on.set()
    assert stage.finish(first)[0] == 0
    status, text = stage.finish(second)
    assert status == 0, text
    assert stage.hub.sent() == {path: file.stat().st_size for path, file in stage.hub.files().items()}


def test_a_hub_that_sends_nothing_is_seen_in_the_bar(stage):
    pause = Pause()
    stage.hub.on_piece = pause
    process = stage.start()
    wait_until(lambda: "no bytes for" in screen(process))
    pause.go_on.set()
    assert stage.finish(process)[0] == 0


def test_the_bar_says_what_happens_where_no_byte_comes(local_hub, tmp_path, hold):
    place = locate(MODEL_ID, "master", tmp_path / "cache")
    files = [manifest.ModelFile(SHARD, 100, "0" * 64), manifest.ModelFile("config.json", 10, "0" * 64)]
    place.folder.mkdir(parents=True)
    (place.folder / f"{SHARD}.incomplete").write_bytes(bytes(60))
    bar = TransferBar(place, files)
    assert bar.explanation(still=1) == ""
    assert "no bytes for 5 seconds" in bar.explanation(still=5)
    callback = bar.start_file(SHARD, 100)
    callback.update(60)  # the client counts what is here, and then hashes it
    assert bar.explanation(still=5) == "hashing the parts of 1 files that are here, 5 seconds"
    callback.update(1)
    assert "no bytes" in bar.explanation(still=5)
    holder = hold(lock_of(place.cache, "config.json"))
    assert f"waiting for process {holder.pid}" in bar.explanation(still=5)


def test_the_holder_is_found_in_every_way_that_this_machine_has(tmp_path, hold):
    lock = tmp_path / "a.lock"
    assert not locks.is_held(lock)
    holder = hold(lock)
    assert locks.is_held(lock)
    assert locks.pid_with_file_open(lock) == holder.pid
    if locks.pid_of_lock(lock) is not None:
        assert locks.pid_of_lock(lock) == holder.pid
    found = locks.find_holder(lock)
    assert found.pid == holder.pid
    assert "FileLock" in found.command
    assert 0 <= found.seconds < PATIENCE
    holder.kill()
    holder.wait()
    assert not locks.is_held(lock)
    assert locks.find_holder(lock) is None


def test_a_lock_that_is_a_file_with_a_number(tmp_path):
    lock = tmp_path / "soft.lock"
    lock.write_text(f"{os.getpid()}\nsome-host\n")
    assert locks.find_holder(lock).pid == os.getpid()
    lock.write_text("999999999\n")
    assert locks.pid_in_file(lock) is None


def test_what_is_said_of_each_kind_of_holder(tmp_path):
    lock = tmp_path / "a.lock"
    kernel = locks.Holder(123, "python -m ipykernel_launcher -f x.json", 7200)
    assert "process 123" in locks.describe(kernel, lock).lower()
    assert "running for 2 hours" in locks.describe(kernel, lock)
    assert "a notebook's kernel" in locks.describe(kernel, lock)
    assert "this very program" in locks.describe(locks.Holder(os.getpid(), "python", 1), lock)
    assert f"delete {lock}" in locks.describe(None, lock)


# A file system without locks


def no_locks(*arguments):
    """What flock answers on such a file system."""
    raise OSError(37, "No locks available")  # ENOLCK


def test_a_file_system_without_locks_is_named(local_hub, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(CourseError, match="the file system there has no locks") as error:
        download(MODEL_ID, cache_dir=tmp_path / "cache")
    assert "pass cache_dir='/another/disk', or, if nothing else downloads there" in str(error.value)
    assert "--cache-dir" in error.value.in_terminal
    assert "again" not in str(error.value)
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_FILE_LOCK", "0")  # the cure that the sentence names
    assert manifest.read(download(MODEL_ID, cache_dir=tmp_path / "cache")) is not None


def test_locks_that_are_switched_off_are_not_waited_for(local_hub, tmp_path, monkeypatch, hold):
    hold(lock_of(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_FILE_LOCK", "0")
    start = time.monotonic()
    download(MODEL_ID, cache_dir=tmp_path / "cache")
    assert time.monotonic() - start < PATIENCE
