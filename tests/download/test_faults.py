"""What can go wrong with a download: ModelScope's client, in its own process, against a hub with one fault.

Every test looks at the requests that the hub saw, the bytes on disk and the message. Where a fault can be
healed, one more call has to complete and verify the folder.
"""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import REAL_MODEL_ID
from helpers.download import manifest
from helpers.download import pipeline as hub
from helpers.download.local_hub import Handler, LocalHub

MODEL_ID = "somebody/small-model"
SHARD = "model-00002-of-00003.safetensors"


def make_model(folder: Path, shard_bytes: int = 600_000) -> Path:
    """A model folder in the layout of a real one: three shards with an index, a config, an empty file."""
    random_bytes, weight_map = random.Random(0), {}
    folder.mkdir(parents=True)
    for number in (1, 2, 3):
        name, tensor = f"model-{number:05}-of-00003.safetensors", f"model.layers.{number}.weight"
        header = {tensor: {"dtype": "U8", "shape": [shard_bytes], "data_offsets": [0, shard_bytes]}}
        text = json.dumps(header).encode()
        (folder / name).write_bytes(
            len(text).to_bytes(8, "little") + text + random_bytes.randbytes(shard_bytes)
        )
        weight_map[tensor] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "none"}')
    (folder / "docs").mkdir()
    (folder / "docs" / "empty.md").write_text("")
    return folder


class FaultyHandler(Handler):
    """Asks the hub's hooks first: True means answered, bytes replace a piece, an error cuts the line."""

    def send_json(self, answer, status=200):
        if self.seen.kind != "list" or not self.server.on_list(self):
            super().send_json(answer, status)

    def send_file(self, file):
        if not self.server.on_file(self, file):
            super().send_file(file)

    def send_piece(self, piece):
        super().send_piece(self.server.on_piece(self, piece) or piece)

    def fail(self, status, body=b'{"Success": false, "Message": "a fault"}'):
        self.send_head(status, len(body))
        self.wfile.write(body)
        return True


class FaultyHub(LocalHub):
    def __init__(self, folder):
        super().__init__(folder, MODEL_ID)
        self.RequestHandlerClass = FaultyHandler
        self.heal()

    def heal(self):
        self.on_list = self.on_file = self.on_piece = lambda handler, *arguments: None
        self.change = lambda entries: entries
        self.bytes_per_second = None
        self.seen.clear()

    def listing(self):
        return self.change(super().listing())

    def sent(self):
        """Bytes of files that were sent, by file."""
        paths = {request.path for request in self.seen if request.kind == "file"}
        return {path: sum(r.sent for r in self.seen if r.path == path) for path in paths}


# Each process is forked from one that has imported the client: importing it takes half a second every time.
# The client pauses for up to a minute between attempts, here for 1 second; it reads that when it is imported.
os.environ["MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS"] = "1"
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "helpers.download"])


def run_command(arguments, environment, output):
    """`python -m helpers.download` with these arguments and this environment, in a process of its own."""
    os.environ.clear()
    os.environ.update(environment)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["hub", *arguments]
    sys.exit(hub.main())


class Stage:
    """A hub, a cache folder and the commands of a learner."""

    def __init__(self, tmp_path):
        self.tmp, self.cache = tmp_path, tmp_path / "cache"
        self.source = make_model(tmp_path / "source")
        self.hub = FaultyHub(self.source)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MODELSCOPE" not in name},
            **self.hub.environment,
            "HOME": str(tmp_path / "home"),
            "COURSE_CACHE": str(tmp_path / "record"),
            "http_proxy": "http://127.0.0.1:9",  # a proxy that would swallow every call
        }
        self.outputs = []

    @property
    def folder(self):
        return self.cache / "models" / MODEL_ID.replace("/", "--") / "snapshots" / self.hub.revision

    def start(self, action="download", *options, model=MODEL_ID):
        output = self.tmp / f"output-{len(self.outputs)}"
        self.outputs.append(output)
        arguments = [action, model, "--cache-dir", str(self.cache), *options]
        process = PROCESSES.Process(target=run_command, args=(arguments, self.environment, output))
        process.output = output
        process.start()
        return process

    def finish(self, process):
        """Exit status and the lines that the learner saw, without those of the bar."""
        process.join(40)
        process.kill()  # nothing, if it has ended as it should
        lines = process.output.read_text().replace("\r", "\n").splitlines()
        text = "\n".join(line for line in lines if line.strip() and "%|" not in line)
        assert "Traceback" not in text, text
        return process.exitcode, text

    def run(self, *arguments, **options):
        return self.finish(self.start(*arguments, **options))

    def on_disk(self):
        """Size of each file in the model's folder, complete or not."""
        return {
            p.relative_to(self.folder).as_posix(): p.stat().st_size
            for p in self.folder.rglob("*")
            if p.is_file()
        }

    def refused(self, *words):
        """The download ends with one sentence that has these words, and no folder counts as a model."""
        status, text = self.run()
        assert status == 1 and len(text.splitlines()) == 1, text
        assert not [word for word in words if str(word) not in text], text
        assert manifest.read(self.folder) is None
        return text

    def completes(self, *options):
        """One more call completes: every byte is right, and an offline check agrees."""
        self.hub.heal()
        status, text = self.run("download", *options)
        assert status == 0, text
        for path, file in self.hub.files().items():
            assert (self.folder / path).read_bytes() == file.read_bytes()
        assert not list(self.folder.rglob("*.incomplete"))
        assert self.run("verify", "--full", *options)[0] == 0
        return text


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    with stage.hub:
        yield stage


def flip(handler, piece):
    """Change one byte on the wire."""
    return piece[:-1] + bytes([piece[-1] ^ 1])


def times(count, fault):
    """A hook that has a fault `count` times and then none."""
    left = [count]

    def hook(handler, *arguments):
        left[0] -= 1
        return fault(handler, *arguments) if left[0] >= 0 else None

    return hook


def cut(*arguments):
    raise ConnectionError


# Stopped in the middle


@pytest.mark.parametrize("stop, status", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_stopped_in_the_middle_of_a_file(stage, stop, status):
    stage.hub.bytes_per_second = 500_000
    process = stage.start()
    deadline = time.monotonic() + 20
    while stage.hub.sent().get(SHARD, 0) < 262_144 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(process.pid, stop)
    code, text = stage.finish(process)
    assert code == status, text
    assert ("Stopped with" in text) == (stop == signal.SIGINT)
    before = stage.on_disk()
    total = sum(file.stat().st_size for file in stage.hub.files().values())
    assert 0 < before[f"{SHARD}.incomplete"] < 600_000 and manifest.read(stage.folder) is None
    assert stage.run("verify")[0] == 1
    stage.completes()
    starts = {r.path: r.start for r in stage.hub.seen if r.kind == "file"}
    assert starts[SHARD] == before[f"{SHARD}.incomplete"]
    assert sum(stage.hub.sent().values()) == total - sum(before.values())  # not one byte is sent twice


def test_two_downloads_at_once(stage):
    stage.hub.bytes_per_second = 1_000_000
    first, second = stage.start(), stage.start()
    assert stage.finish(first)[0] == 0 and stage.finish(second)[0] == 0
    assert stage.hub.sent() == {path: file.stat().st_size for path, file in stage.hub.files().items()}
    stage.completes()
    assert not stage.hub.sent()


# Damaged bytes


def test_byte_flipped_on_the_wire_once(stage):
    stage.hub.on_piece = times(1, flip)
    code, text = stage.run()
    assert code == 0, text
    damaged = [path for path, sent in stage.hub.sent().items() if sent > (stage.source / path).stat().st_size]
    assert len(damaged) == 1  # only that file came twice
    stage.completes()


def test_byte_flipped_on_the_wire_always(stage):
    stage.hub.on_piece = lambda handler, piece: flip(handler, piece) if handler.seen.path == SHARD else None
    stage.refused(SHARD, "sha256", "1 of 6 files")
    assert SHARD not in stage.on_disk()
    stage.completes()
    assert set(stage.hub.sent()) == {SHARD}


@pytest.mark.parametrize("keep_time", [False, True])
def test_byte_flipped_on_disk(stage, keep_time):
    stage.completes()
    target = stage.folder / SHARD
    content, before = bytearray(target.read_bytes()), target.stat()
    content[300_000] ^= 1
    target.write_bytes(content)
    if keep_time:  # as a failing disk does it: nothing but the content tells
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert stage.run("verify")[0] == 0
    code, text = stage.run("verify", "--full")
    assert code == 1 and SHARD in text and "sha256" in text
    stage.hub.seen.clear()
    assert stage.run("verify", "--full", "--repair")[0] == 0
    assert stage.hub.sent() == {SHARD: before.st_size} and not [r for r in stage.hub.seen if r.kind == "list"]
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
    listing = stage.hub.listing()
    stage.hub.change = lambda entries: listing
    (stage.source / SHARD).write_bytes(whole[:-1000])
    stage.refused(SHARD, "size")
    (stage.source / SHARD).write_bytes(whole)
    stage.completes()


def change_listing(**values):
    return lambda entries: [entry | values if entry["Path"] == SHARD else entry for entry in entries]


@pytest.mark.parametrize("size", [600_000, 10_000_000])
def test_wrong_size_in_the_list(stage, size):
    stage.hub.change = change_listing(Size=size)
    stage.refused(SHARD, "size")
    stage.completes()


@pytest.mark.parametrize("values", [{"Size": -1}, {"Size": "600"}, {"Size": None}, {"Sha256": "no hash"}])
def test_unusable_size_or_hash_in_the_list(stage, values):
    stage.hub.change = change_listing(**values)
    stage.refused("size or sha256", SHARD)
    assert not stage.hub.sent()
    stage.completes()


def test_no_sha256_in_the_list_is_said_and_the_size_and_header_are_checked(stage):
    stage.hub.change = change_listing(Sha256=None)
    code, text = stage.run()
    assert code == 0 and "1 files have no sha256" in text
    assert all(len(file.sha256) == 64 for file in manifest.read(stage.folder)[2])
    stage.completes()
    shutil.rmtree(stage.folder)
    stage.hub.change = change_listing(Sha256=None)
    stage.hub.on_piece = lambda handler, piece: bytes(len(piece)) if handler.seen.path == SHARD else None
    code, text = stage.run()
    assert code == 1 and SHARD in text


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
    total = sum(file.stat().st_size for file in stage.hub.files().values())
    assert sum(stage.hub.sent().values()) == total  # it resumed each time
    stage.completes()


def test_connection_always_dropped(stage):
    stage.hub.on_file = lambda handler, file: cut() if handler.seen.path == SHARD else False
    stage.refused(SHARD, "breaking off")
    stage.completes()
    assert set(stage.hub.sent()) == {SHARD}


def test_connection_dropped_on_the_list(stage):
    stage.hub.on_list = times(1, cut)
    assert stage.run()[0] == 0
    stage.hub.on_list = cut
    code, text = stage.run()
    assert code == 1 and "breaking off" in text
    stage.completes()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("where", ["list", "file"])
def test_http_errors(stage, where, status):
    if where == "list":
        stage.hub.on_list = lambda handler: handler.fail(status)
        stage.refused(MODEL_ID, *([] if status in (401, 403, 404, 429) else [status]))
        assert not stage.hub.sent()
    else:
        stage.hub.on_file = lambda handler, file: handler.seen.path == SHARD and handler.fail(status)
        stage.refused(SHARD, "1 of 6 files", "kept")
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
    stage.hub.on_file = lambda handler, file: handler.seen.path == SHARD and handler.fail(200, PORTAL)
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


UNSAFE = """../../escaped /tmp/escaped C:\\escaped D:escaped a\\..\\..\\escaped docs/../../escaped
docs//escaped ./escaped docs/\u202eescaped x\tescaped"""


@pytest.mark.parametrize("path", re.split("[ \n]", UNSAFE))
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
    assert not stage.hub.sent() and not list(outside.iterdir())
    (stage.folder / "docs").unlink()
    stage.completes()


@pytest.mark.parametrize(
    "model, words", [("somebody/else", "does not list"), ("../../x", "owner/name"), ("x", "owner/name")]
)
def test_unknown_model(stage, model, words):
    code, text = stage.run(model=model)
    assert code == 1 and words in text
    assert not stage.cache.exists()


@pytest.mark.parametrize(
    "revision, words", [("v9", "check the name and the revision"), ("../../x", "revision")]
)
def test_unknown_revision(stage, revision, words):
    code, text = stage.run("download", "--revision", revision)
    assert code == 1 and words in text
    assert not stage.cache.exists()


# What changes on the hub


def test_revision_change(stage):
    stage.completes()
    old = stage.folder
    (stage.source / "config.json").write_text('{"model_type": "new"}')
    stage.hub.revision = "v2"
    stage.completes("--revision", "v2")
    assert stage.folder != old and "none" in (old / "config.json").read_text()


def test_file_changed_upstream(stage):
    stage.completes()
    (stage.source / "config.json").write_text('{"model_type": "some"}')  # the same size
    stage.completes()
    assert list(stage.hub.sent()) == ["config.json"]


def test_file_deleted_upstream(stage):
    stage.completes()
    (stage.source / "docs" / "empty.md").unlink()
    stage.completes()
    assert len(manifest.read(stage.folder)[2]) == 5 and not stage.hub.sent()


def test_file_deleted_upstream_but_still_listed(stage):
    listing = stage.hub.listing()
    stage.hub.change = lambda entries: listing
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
        if handler.seen.sent and not (small_disk / "filler").exists():
            with (small_disk / "filler").open("wb", buffering=0) as file:
                while True:
                    try:
                        file.write(b"x" * 4096)
                    except OSError:
                        break

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
    start = time.monotonic()
    stage.refused("No connection")
    assert time.monotonic() - start < 5
    stage.environment = online
    stage.completes()
    stage.environment = online | {"MODELSCOPE_ENDPOINT": url, "http_proxy": ""}
    code, text = stage.run()
    assert code == 0 and "Using the copy on disk" in text  # a checked copy is as good offline
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
    assert recorded["model_id"] == REAL_MODEL_ID and recorded["revision"] == "master"
    assert manifest.read(Path(recorded["folder"]))[0] == REAL_MODEL_ID
