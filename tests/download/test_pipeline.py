"""The download guard without faults: what it says, what it writes and what it checks."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from test_faults import MODEL_ID, SHARD, Stage, make_model

from helpers import REAL_MODEL_ID, CourseError
from helpers.download import file_list as listing
from helpers.download import manifest
from helpers.download import pipeline as hub
from helpers.download.local_hub import LocalHub


@pytest.fixture
def source(tmp_path):
    return make_model(tmp_path / "source", 100_000)


@pytest.fixture
def local_hub(source, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "record"))
    monkeypatch.delenv("MODELSCOPE_CACHE", raising=False)
    with LocalHub(source, MODEL_ID) as server:
        yield server


@pytest.fixture
def folder(local_hub, tmp_path):
    return hub.download(MODEL_ID, cache_dir=tmp_path / "cache")


def test_plan_says_what_a_download_would_do(local_hub, tmp_path):
    plan = hub.plan(MODEL_ID, cache_dir=tmp_path / "cache", speed=5)
    assert (len(plan.files), plan.total, plan.remaining) == (6, 300_515, 300_515)
    assert "6 files, 0.30 MB, here already 0.00 MB" in str(plan) and "at 5 MB/s" in str(plan)
    assert plan.free > 0 and not (tmp_path / "cache").exists()
    hub.download(MODEL_ID, cache_dir=tmp_path / "cache")
    assert hub.plan(MODEL_ID, cache_dir=tmp_path / "cache").remaining == 0


def test_minutes_of_the_real_size():
    plan = hub.Plan([], 28_631_568_384, 28_631_568_384, 50 * 10**9, 10)
    assert "to download 28.63 GB, 47.7 minutes at 10 MB/s" in str(plan)


def test_too_small_a_disk_is_refused_with_the_figures(local_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 200_000))
    with pytest.raises(CourseError, match=r"0\.30 MB are to come and the disk has 0\.20 MB free"):
        hub.plan(MODEL_ID, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(hub, "AUTODL_DISK", tmp_path)
    with pytest.raises(CourseError, match=str(tmp_path)):
        hub.download(MODEL_ID, cache_dir=tmp_path / "cache")


def test_on_autodl_the_data_disk_is_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("MODELSCOPE_CACHE", raising=False)
    assert hub.cache_folder() == Path.home() / ".cache" / "modelscope"
    monkeypatch.setattr(hub, "AUTODL_DISK", tmp_path)
    assert hub.cache_folder() == tmp_path
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "mine"))
    assert hub.cache_folder() == tmp_path / "mine"


def test_the_client_and_the_guard_agree_on_the_folder(folder, local_hub, tmp_path):
    from modelscope import snapshot_download

    cache = str(tmp_path / "cache")
    assert Path(snapshot_download(MODEL_ID, cache_dir=cache, local_files_only=True)) == folder
    assert (
        Path(snapshot_download(MODEL_ID, cache_dir=str(tmp_path / "other"))).name == folder.name == "master"
    )


@pytest.mark.parametrize(
    "layout", ["somebody/small-model", "models/somebody/small-model", "hub/somebody/small-model"]
)
def test_a_folder_of_an_older_client_is_reused(local_hub, source, tmp_path, layout):
    old = tmp_path / "cache" / layout
    shutil.copytree(source, old)
    assert hub.download(MODEL_ID, cache_dir=tmp_path / "cache") == old
    assert not [request for request in local_hub.seen if request.kind == "file"]


def test_manifest_holds_every_file(folder, source):
    model_id, revision, files = manifest.read(folder)
    assert (model_id, revision) == (MODEL_ID, "master")
    for file in files:
        assert (
            file.stat(folder) == (file.size, file.mtime_ns)
            and file.size == (source / file.path).stat().st_size
        )
    with pytest.raises(CourseError, match="unsafe path"):
        manifest.checked(folder, "../x", 1, "0" * 64)


def test_a_damaged_manifest_counts_as_none(folder):
    (folder / manifest.NAME).write_text('{"model_id": "x", "files": [')
    with pytest.raises(CourseError, match="not downloaded to the end"):
        hub.verify(folder)


def test_verify_hashes_only_what_changed(folder, capsys):
    assert hub.verify(folder) == folder
    assert "hashed" not in capsys.readouterr().out
    os.utime(folder / SHARD)
    hub.verify(folder)
    assert "1 hashed now" in capsys.readouterr().out
    hub.verify(folder)
    assert "hashed" not in capsys.readouterr().out
    hub.verify(folder, full=True)
    assert "6 hashed now" in capsys.readouterr().out


def test_verify_of_a_moved_folder(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert hub.verify(tmp_path / "elsewhere") == tmp_path / "elsewhere"


@pytest.mark.parametrize("change", ["missing", "short", "byte"])
def test_verify_names_the_wrong_file(folder, change):
    content = (folder / SHARD).read_bytes()
    if change == "missing":
        (folder / SHARD).unlink()
    else:
        (folder / SHARD).write_bytes(content[:-1] + (b"" if change == "short" else bytes([content[-1] ^ 1])))
    with pytest.raises(CourseError, match=f"1 of 6 files wrong, {SHARD}") as error:
        hub.verify(folder)
    assert "\n" not in str(error.value)


def test_headers_are_held_against_files_and_index(folder):
    names = [file.path for file in manifest.read(folder)[2]]
    assert manifest.wrong_tensors(folder, names) == {}
    lacking = [name for name in names if name != SHARD]
    assert manifest.wrong_tensors(folder, lacking) == {SHARD: "lacks tensors that the index names"}
    with (folder / SHARD).open("ab") as file:
        file.write(b"more")
    assert "another length" in manifest.wrong_tensors(folder, names)[SHARD]
    (folder / SHARD).write_bytes(b"\xff" * 20)
    assert "cannot be read" in manifest.wrong_tensors(folder, names)[SHARD]


def test_no_trace_of_the_real_model(folder, tmp_path):
    assert not (tmp_path / "record").exists()
    with pytest.raises(ValueError, match="must not be called"):
        LocalHub(folder, REAL_MODEL_ID)


def test_a_new_download_of_the_real_model_takes_its_record_back_first(local_hub, tmp_path, monkeypatch):
    local_hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a test may rename it
    cache, record = tmp_path / "cache", tmp_path / "record" / "model.json"
    hub.download(REAL_MODEL_ID, cache_dir=cache)
    assert json.loads(record.read_text())["model_id"] == REAL_MODEL_ID
    (local_hub.folder / "config.json").write_text("{}")
    monkeypatch.setattr(hub, "_fetch", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hub.download(REAL_MODEL_ID, cache_dir=cache)
    assert not record.exists()


def test_bar_counts_every_byte_once(folder):
    files = manifest.read(folder)[2]
    progress = hub._Bar(folder, files)
    assert progress.bar.n == progress.bar.total == 300_515
    callback = progress.start_file(SHARD, 100_084)  # the client found it wrong and starts again
    size = next(file.size for file in files if file.path == SHARD)
    assert progress.bar.n == progress.bar.total - size
    callback.update(size - 10)
    callback.update(-(size - 10))
    callback.update(size)
    assert progress.bar.n == progress.bar.total and "6/6 files" in progress.bar.postfix
    callback = progress.start_file(SHARD, size)  # its hash did not match: the client begins anew
    callback.update(size)
    assert progress.bar.n == progress.bar.total
    progress.bar.close()


def test_the_settings_that_are_set_for_the_client_exist():
    for name in (
        "tqdm",
        "DOWNLOAD_PARALLELS",
        "DOWNLOAD_TOTAL_TIMEOUT",
        "DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS",
    ):
        assert hasattr(hub.client, name)


def test_reasons_name_the_status():
    for status in (401, 403, 404, 429):
        assert listing.reason(status) == listing.STATUS[status]
    assert "HTTP 502" in listing.reason(502)


# The local hub itself


def test_ranges(local_hub):
    url = f"{local_hub.environment['MODELSCOPE_ENDPOINT']}/api/v1/models/{MODEL_ID}/repo"
    content = (local_hub.folder / SHARD).read_bytes()

    def get(header=None):
        query = {"Revision": "master", "FilePath": SHARD}
        return requests.get(url, query, headers={"Range": header} if header else {}, timeout=5)

    assert (get().status_code, get().content) == (200, content)
    answer = get("bytes=1000-")
    assert (answer.status_code, answer.content) == (206, content[1000:])
    assert answer.headers["Content-Range"] == f"bytes 1000-{len(content) - 1}/{len(content)}"
    answer = get("bytes=10-19")
    assert answer.content == content[10:20] and answer.headers["Content-Length"] == "10"
    answer = get(f"bytes={len(content)}-")
    assert answer.status_code == 416 and answer.headers["Content-Range"] == f"bytes */{len(content)}"


def test_the_local_hub_serves_its_model_and_nothing_else(local_hub):
    base = local_hub.environment["MODELSCOPE_ENDPOINT"]
    for path in ("/", f"/api/v1/models/{REAL_MODEL_ID}/repo/files?Revision=master", "/api/v1/anything"):
        answer = requests.get(base + path, timeout=5)
        assert answer.status_code == 404 and answer.json()["Success"] is False
    for path in ("../../etc/passwd", "/etc/passwd", "no-such-file"):
        query = {"Revision": "master", "FilePath": path}
        assert requests.get(f"{base}/api/v1/models/{MODEL_ID}/repo", query, timeout=5).status_code == 404
    assert local_hub.server_address[0] == "127.0.0.1"


def test_leaving_the_local_hub_restores_the_environment(source, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)
    with LocalHub(source, MODEL_ID) as server:
        assert os.environ["MODELSCOPE_ENDPOINT"].endswith(str(server.server_port))
    assert os.environ["NO_PROXY"] == "example.org" and "MODELSCOPE_ENDPOINT" not in os.environ


# The command line, started as a learner starts it


@pytest.fixture
def command(tmp_path):
    stage = Stage(tmp_path)

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "helpers.download", *arguments, "--cache-dir", str(stage.cache)],
            env={**stage.environment, **environment},
            capture_output=True,
            text=True,
        )

    with stage.hub:
        yield run


def test_command_line(command):
    assert "6 files" in command("plan", MODEL_ID).stdout
    result = command("download", MODEL_ID)
    assert result.returncode == 0, result.stderr
    folder = result.stdout.splitlines()[-1]
    assert command("verify", MODEL_ID, "--full").returncode == command("verify", folder).returncode == 0
    (Path(folder) / SHARD).write_bytes(b"")
    result = command("verify", MODEL_ID)
    assert result.returncode == 1 and SHARD in result.stderr and "Traceback" not in result.stderr
    assert command("verify", MODEL_ID, "--repair").returncode == 0


def test_no_network_is_known_in_five_seconds(command):
    start = time.monotonic()
    result = command("download", MODEL_ID, MODELSCOPE_ENDPOINT="http://no-such-host.invalid", http_proxy="")
    assert result.returncode == 1 and result.stderr.startswith("No connection to no-such-host.invalid")
    assert time.monotonic() - start < 5
