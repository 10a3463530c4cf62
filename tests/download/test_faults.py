"""What can go wrong with a download: ModelScope's client, in its own process, against a hub with one fault.

Every test looks at the requests that the hub saw, the bytes on disk and the message. Where a fault can be
healed, one more call has to complete and verify the folder.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from stage import MODEL_ID, SHARD, Pause, cut, fault_of, flip, times, total_size, wait_until

from helpers import REAL_MODEL_ID
from helpers.download import download, manifest, transfer
from helpers.download.faults import of_status_number
from helpers.download.place import locate

# Stopped in the middle


@pytest.mark.parametrize("stop, status", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_stopped_in_the_middle_of_a_file(stage, stop, status):
    pause = Pause()
    stage.hub.on_piece = pause
    process = stage.start()
    wait_until(lambda: stage.on_disk().get(f"{SHARD}.incomplete", 0) > 100_000)
    os.kill(process.pid, stop)
    code, text = stage.finish(process)
    pause.go_on.set()
    assert code == status, text
    assert ("Stopped with" in text) == (stop == signal.SIGINT)
    before = stage.on_disk()
    total = total_size(stage.source)
    assert 0 < before[f"{SHARD}.incomplete"] < 600_000
    assert manifest.read(stage.folder) is None
    assert stage.run("verify")[0] == 1
    stage.completes()
    starts = {r.path: r.start for r in stage.hub.seen if r.kind == "file"}
    assert starts[SHARD] == before[f"{SHARD}.incomplete"]
    assert sum(stage.hub.sent().values()) == total - sum(before.values())  # not one byte is sent twice


def test_two_downloads_at_once(stage):
    stage.hub.bytes_per_second = 1_000_000
    first = stage.start()
    second = stage.start()
    assert stage.finish(first)[0] == 0
    assert stage.finish(second)[0] == 0
    assert stage.hub.sent() == {path: file.stat().st_size for path, file in stage.hub.files().items()}
    stage.completes()
    assert not stage.hub.sent()


@pytest.mark.parametrize("before", ["missing", "damaged"])
def test_what_another_download_brings_in_the_meantime_stays(local_hub, tmp_path, monkeypatch, before):
    """The moment between the comparison and the transfer: the other download ends just then."""
    folder = locate(MODEL_ID, "master", tmp_path / "cache").folder
    if before == "damaged":
        shutil.copytree(local_hub.folder, folder)
        for file in folder.glob("*.safetensors"):
            file.write_bytes(bytes(file.stat().st_size))

    def other_download_ends():
        shutil.copytree(local_hub.folder, folder, dirs_exist_ok=True)

    monkeypatch.setattr(transfer, "connect", other_download_ends)
    download(MODEL_ID, cache_dir=tmp_path / "cache")
    assert not [request for request in local_hub.seen if request.kind == "file"]


# Damaged bytes


def test_byte_flipped_on_the_wire_once(stage):
    stage.hub.on_piece = times(1, flip)
    code, text = stage.run()
    assert code == 0, text
    damaged = [path for path, sent in stage.hub.sent().items() if sent > (stage.source / path).stat().st_size]
    assert len(damaged) == 1  # only that file came twice
    stage.completes()


def test_byte_flipped_on_the_wire_always(stage):
    stage.hub.on_piece = fault_of(flip)
    stage.refused(SHARD, "sha256", "1 of 6 files")
    assert SHARD not in stage.on_disk()
    stage.completes()
    assert set(stage.hub.sent()) == {SHARD}


@pytest.mark.parametrize("keep_time", [False, True])
def test_byte_flipped_on_disk(stage, keep_time):
    stage.completes()
    target = stage.folder / SHARD
    content = bytearray(target.read_bytes())
    before = target.stat()
    content[300_000] ^= 1
    target.write_bytes(content)
    if keep_time:  # as a failing disk does it: nothing but the content tells
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert stage.run("verify")[0] == 0
    code, text = stage.run("verify", "--full")
    assert code == 1
    assert f"{SHARD} has another sha256" in text
    stage.hub.seen.clear()
    assert stage.run("verify", "--full", "--repair")[0] == 0
    assert stage.hub.sent() == {SHARD: before.st_size}
    assert not [request for request in stage.hub.seen if request.kind == "list"]
    stage.completes()


def test_byte_flipped_on_disk_is_mended_by_a_second_download(stage):
    stage.completes()
    content = bytearray((stage.folder / SHARD).read_bytes())
    content[-1] ^= 1
    (stage.folder / SHARD).write_bytes(content)
    assert SHARD in stage.completes()
    assert stage.hub.sent() == {SHARD: len(content)}


def test_truncated_object(stage):
    whole = (stage.source / SHARD).read_bytes()
    as_it_was = stage.hub.file_list()
    stage.hub.change = lambda entries: as_it_was
    (stage.source / SHARD).write_bytes(whole[:-1000])
    stage.refused(SHARD, "size")
    (stage.source / SHARD).write_bytes(whole)
    stage.completes()


def change_list(**values):
    """A change of the hub's list: these values for the second shard."""

    def change(entries):
        changed = []
        for entry in entries:
            if entry["Path"] == SHARD:
                entry = entry | values
            changed.append(entry)
        return changed

    return change


@pytest.mark.parametrize("size", [600_000, 10_000_000])
def test_wrong_size_in_the_list(stage, size):
    stage.hub.change = change_list(Size=size)
    stage.refused(SHARD, "size")
    stage.completes()


@pytest.mark.parametrize("values", [{"Size": -1}, {"Size": "600"}, {"Size": None}, {"Sha256": "no hash"}])
def test_unusable_size_or_hash_in_the_list(stage, values):
    stage.hub.change = change_list(**values)
    stage.refused("size or sha256", SHARD)
    assert not stage.hub.sent()
    stage.completes()


def test_no_sha256_in_the_list_is_said_and_the_size_and_header_are_checked(stage):
    stage.hub.change = change_list(Sha256=None)
    code, text = stage.run()
    assert code == 0, text
    assert "1 files have no sha256" in text
    assert all(len(file.sha256) == 64 for file in manifest.read(stage.folder).files)
    stage.completes()
    shutil.rmtree(stage.folder)
    stage.hub.change = change_list(Sha256=None)
    stage.hub.on_piece = fault_of(lambda handler, piece: bytes(len(piece)))
    code, text = stage.run()
    assert code == 1
    assert SHARD in text
    stage.completes()  # also where no hash says that what is there is wrong


# The connection


@pytest.mark.parametrize("count", [1, 5])
def test_connection_dropped_in_the_middle_of_files(stage, count):
    def drop(handler, piece):
        handler.wfile.write(piece[:100_000])
        handler.seen.sent += len(piece[:100_000])
        raise ConnectionError

    stage.hub.on_piece = times(count, drop)
    code, text = stage.run()
    assert code == 0, text
    total = total_size(stage.source)
    assert sum(stage.hub.sent().values()) == total  # it resumed each time
    stage.completes()


def test_connection_always_dropped(stage):
    stage.hub.on_file = fault_of(cut)
    stage.refused(SHARD, "breaking off")
    stage.completes()
    assert set(stage.hub.sent()) == {SHARD}


def test_connection_dropped_on_the_list(stage):
    stage.hub.on_list = times(1, cut)
    assert stage.run()[0] == 0
    stage.hub.on_list = cut
    code, text = stage.run()
    assert code == 1
    assert "breaking off" in text
    stage.completes()


STATUS = [401, 403, 404, 429, 500, 503]


@pytest.mark.parametrize("status", STATUS)
def test_http_errors_of_the_list(stage, status):
    stage.hub.on_list = lambda handler: handler.fail(status)
    stage.refused(MODEL_ID, of_status_number(status).cause)
    assert not stage.hub.sent()
    stage.completes()


@pytest.mark.parametrize("status", STATUS)
def test_http_errors_of_a_file(stage, status):
    stage.hub.on_file = fault_of(lambda handler, file: handler.fail(status))
    stage.refused(SHARD, "1 of 6 files", "kept", of_status_number(status).cause)
    assert len(stage.on_disk()) == 5
    stage.completes()


@pytest.mark.parametrize("status", [429, 503])
def test_http_error_that_passes(stage, status):
    stage.hub.on_list = times(1, lambda handler: handler.fail(status))
    stage.hub.on_file = times(1, lambda handler, file: handler.fail(status))
    assert stage.run()[0] == 0
    stage.completes()


# Answers that are not what they should be


PORTAL = b"<html><body>Please log in to the campus network</body></html>"


def test_captive_portal_instead_of_the_list(stage):
    stage.hub.on_list = lambda handler: handler.fail(200, PORTAL)
    stage.refused("login page")
    stage.completes()


def test_captive_portal_instead_of_a_file(stage):
    stage.hub.on_file = fault_of(lambda handler, file: handler.fail(200, PORTAL))
    stage.refused(SHARD, "size")
    assert SHARD not in stage.on_disk()
    stage.completes()


@pytest.mark.parametrize(
    "answer, words",
    [
        ({"Code": 200, "Success": True, "Data": {"Files": []}}, "empty"),
        ({"Code": 200, "Success": True, "Data": {"Files": [{"Path": "docs", "Type": "tree"}]}}, "empty"),
        ({"Code": 10990101, "Success": False, "Message": "no such model"}, "no such model"),
        ({"Code": 200, "Success": True, "Data": None}, "not a list of files"),
        (["something", "else"], "not a list of files"),
    ],
)
def test_useless_lists(stage, answer, words):
    stage.hub.on_list = lambda handler: handler.fail(200, json.dumps(answer).encode())
    stage.refused(words)
    assert not stage.folder.exists()
    stage.completes()


UNSAFE = [
    "../../escaped",
    "/tmp/escaped",
    "C:\\escaped",
    "D:escaped",
    "a\\..\\..\\escaped",
    "docs/../../escaped",
    "docs//escaped",
    "./escaped",
    "docs/\u202eescaped",
    "x\tescaped",
]


@pytest.mark.parametrize("path", ["docs", "config.json/x"])
def test_a_name_that_is_a_file_and_a_folder(stage, path):
    stage.hub.change = lambda entries: [*entries, {"Path": path, "Size": 10, "Sha256": "0" * 64}]
    stage.refused("as a file and as a folder", "another revision")
    assert not stage.hub.sent()
    stage.completes()


def test_a_manifest_of_the_course_on_the_hub_is_left_out(stage):
    listed = {"Path": manifest.NAME, "Size": 10, "Sha256": "0" * 64}
    stage.hub.change = lambda entries: [*entries, listed]
    assert stage.run()[0] == 0
    stage.completes()


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths(stage, path):
    stage.hub.change = lambda entries: [*entries, {"Path": path, "Size": 10, "Sha256": "0" * 64}]
    before = sorted(stage.tmp.rglob("*"))
    stage.refused("unsafe path")
    assert not stage.hub.sent()
    new = set(stage.tmp.rglob("*")) - set(before)
    assert not [file for file in new if "escaped" in file.name or file.is_relative_to(stage.cache)]
    stage.completes()


def test_link_that_leads_out_of_the_folder(stage):
    outside = stage.tmp / "outside"
    outside.mkdir()
    stage.folder.mkdir(parents=True)
    (stage.folder / "docs").symlink_to(outside)
    stage.refused("unsafe path")
    assert not stage.hub.sent()
    assert not list(outside.iterdir())
    (stage.folder / "docs").unlink()
    stage.completes()


@pytest.mark.parametrize(
    "model, words", [("somebody/else", "does not list"), ("../../x", "owner/name"), ("x", "owner/name")]
)
def test_unknown_model(stage, model, words):
    code, text = stage.run(model=model)
    assert code == 1
    assert words in text
    assert not stage.cache.exists()


@pytest.mark.parametrize(
    "revision, words", [("v9", "check the name and the revision"), ("../../x", "revision")]
)
def test_unknown_revision(stage, revision, words):
    code, text = stage.run("download", "--revision", revision)
    assert code == 1
    assert words in text
    assert not stage.cache.exists()


# What changes on the hub


def test_revision_change(stage):
    stage.completes()
    old = stage.folder
    (stage.source / "config.json").write_text('{"model_type": "new"}')
    stage.hub.revision = "v2"
    stage.completes("--revision", "v2")
    assert stage.folder != old
    assert "none" in (old / "config.json").read_text()


def test_file_changed_upstream(stage):
    stage.completes()
    (stage.source / "config.json").write_text('{"model_type": "some"}')  # the same size
    stage.completes()
    assert list(stage.hub.sent()) == ["config.json"]


def test_file_deleted_upstream(stage):
    stage.completes()
    (stage.source / "docs" / "empty.md").unlink()
    stage.completes()
    assert len(manifest.read(stage.folder).files) == 5
    assert not stage.hub.sent()


def test_file_deleted_upstream_but_still_listed(stage):
    as_it_was = stage.hub.file_list()
    stage.hub.change = lambda entries: as_it_was
    (stage.source / SHARD).rename(stage.tmp / "shard")
    stage.refused(SHARD, "no such thing")
    (stage.tmp / "shard").rename(stage.source / SHARD)
    stage.completes()


# The disk


@pytest.fixture
def small_disk(stage):
    stage.cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(stage.cache)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not permit mounting a small disk")
    yield stage.cache
    subprocess.run(["umount", str(stage.cache)], check=True)


def test_disk_full_before(stage, small_disk):
    (small_disk / "filler").write_bytes(b"x" * 1_500_000)
    stage.refused("1.80 MB are to come", "free")
    assert not stage.hub.sent()
    (small_disk / "filler").unlink()
    stage.completes()


def test_disk_full_during(stage, small_disk):
    def fill(handler, piece):
        if not handler.seen.sent or (small_disk / "filler").exists():
            return
        with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for _ in range(2500 * 1024 // 4096):
                file.write(b"x" * 4096)

    stage.hub.on_piece = fill
    stage.refused("are to come", "MB free")
    (small_disk / "filler").unlink()
    stage.completes()


# No network


@pytest.fixture
def silent_port():
    """A port on which a connection is never made, as behind a firewall that drops packets."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no-such-host.invalid", "silent"])
def test_no_network(stage, silent_port, address):
    url = f"http://127.0.0.1:{silent_port}" if address == "silent" else address
    online = stage.environment
    stage.environment = online | {"MODELSCOPE_ENDPOINT": url, "http_proxy": ""}
    stage.refused("No connection")
    stage.environment = online
    stage.completes()
    stage.environment = online | {"MODELSCOPE_ENDPOINT": url, "http_proxy": ""}
    code, text = stage.run()
    assert code == 0, text
    assert "Using the copy on disk" in text  # a checked copy is as good offline
    (stage.folder / SHARD).unlink()
    assert stage.run()[0] == 1  # an incomplete one is not


# What is recorded


def test_only_the_real_model_is_recorded(stage):
    record = stage.tmp / "record" / "model.json"
    stage.completes()
    assert not record.exists()
    stage.hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a test may rename it
    assert stage.run(model=REAL_MODEL_ID)[0] == 0
    recorded = json.loads(record.read_text())
    assert (recorded["model_id"], recorded["revision"]) == (REAL_MODEL_ID, "master")
    assert manifest.read(Path(recorded["folder"])).model_id == REAL_MODEL_ID
