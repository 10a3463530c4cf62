"""The local hub: ranges, what it serves, and what it leaves behind."""

import hashlib
import os

import pytest
import requests
from stage import MODEL_ID, SHARD

from helpers import REAL_MODEL_ID
from helpers.download.local_hub import LocalHub

TIMEOUT = 30  # seconds; a net, the answers come at once


def get(hub: LocalHub, path: str, ranges: str | None = None, model_id: str = MODEL_ID) -> requests.Response:
    """Ask a hub for a file, or for a range of it."""
    url = f"{hub.environment['MODELSCOPE_ENDPOINT']}/api/v1/models/{model_id}/repo"
    headers = {}
    if ranges:
        headers["Range"] = ranges
    return requests.get(url, {"Revision": "master", "FilePath": path}, headers=headers, timeout=TIMEOUT)


def test_the_whole_file(local_hub):
    answer = get(local_hub, SHARD)
    assert answer.status_code == 200
    assert answer.content == (local_hub.folder / SHARD).read_bytes()


@pytest.mark.parametrize(
    "ranges, start, end",
    [
        ("bytes=1000-", 1000, None),
        ("bytes=10-19", 10, 20),
        ("bytes=0-0", 0, 1),
        ("bytes=5-99999999", 5, None),
    ],
)
def test_ranges(local_hub, ranges, start, end):
    content = (local_hub.folder / SHARD).read_bytes()
    if end is None:
        end = len(content)
    answer = get(local_hub, SHARD, ranges)
    assert answer.status_code == 206
    assert answer.content == content[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(content)}"
    assert answer.headers["Content-Length"] == str(end - start)


def test_a_range_behind_the_end(local_hub):
    size = (local_hub.folder / SHARD).stat().st_size
    answer = get(local_hub, SHARD, f"bytes={size}-")
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_it_serves_its_model_and_nothing_else(local_hub):
    base = local_hub.environment["MODELSCOPE_ENDPOINT"]
    for path in ("/", f"/api/v1/models/{REAL_MODEL_ID}/repo/files?Revision=master", "/api/v1/anything"):
        answer = requests.get(base + path, timeout=TIMEOUT)
        assert answer.status_code == 404
        assert answer.json()["Success"] is False
    for path in ("../../etc/passwd", "/etc/passwd", "no-such-file"):
        assert get(local_hub, path).status_code == 404
    assert local_hub.server_address[0] == "127.0.0.1"


def test_its_list_has_size_and_sha256_of_every_file(local_hub):
    listed = {entry["Path"]: entry for entry in local_hub.file_list()}
    assert len(listed) == 6
    for path, file in local_hub.files().items():
        content = file.read_bytes()
        assert listed[path]["Size"] == len(content)
        assert listed[path]["Sha256"] == hashlib.sha256(content).hexdigest()


def test_leaving_it_restores_the_environment(source, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("MODELSCOPE_ENDPOINT", raising=False)
    with LocalHub(source, MODEL_ID) as server:
        assert os.environ["MODELSCOPE_ENDPOINT"].endswith(str(server.server_port))
    assert os.environ["NO_PROXY"] == "example.org"
    assert "MODELSCOPE_ENDPOINT" not in os.environ
