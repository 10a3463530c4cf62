"""A model hub on this machine only. It speaks the part of ModelScope's HTTP protocol that a download needs.

It stands in for modelscope.cn where there is no network, so that the real client can be watched at work. It
serves one folder, by default the course's embedded toy model, under its own name and never the real model's.
"""

import hashlib
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID

EMBEDDED_MODEL_ID = "moe-course/embedded-toy-model"  # the toy's name on this hub; it exists nowhere else


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. Tests inject faults by overriding its methods."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, url = self.server, urlsplit(self.path)
        query, base = dict(parse_qsl(url.query)), f"/api/v1/models/{hub.model_id}/repo"
        path, known = query.get("FilePath", ""), query.get("Revision") == hub.revision
        kind = {f"{base}/files": "list", base: "file"}.get(url.path, "other")
        self.seen = SimpleNamespace(kind=kind, path=path or url.path, start=0, status=0, sent=0)
        hub.seen.append(self.seen)
        if kind == "list" and known:
            self.send_json({"Code": 200, "Success": True, "Data": {"Files": hub.listing()}})
        elif kind == "file" and known and path in hub.files():
            self.send_file(hub.files()[path])
        else:
            self.send_json({"Code": 404, "Success": False, "Message": f"only {hub.model_id} is here"}, 404)

    def send_file(self, file: Path) -> None:
        """Send one file, or the part of it that a Range header asks for."""
        size, asked = file.stat().st_size, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
        self.seen.start = start
        if asked and start > end:
            return self.send_head(416, 0, f"*/{size}")
        self.send_head(206 if asked else 200, end + 1 - start, f"{start}-{end}/{size}" if asked else None)
        with file.open("rb") as stream:
            stream.seek(start)
            while piece := stream.read(min(1 << 18, end + 1 - start - self.seen.sent)):
                self.send_piece(piece)

    def send_piece(self, piece: bytes) -> None:
        self.wfile.write(piece)
        self.seen.sent += len(piece)
        if self.server.bytes_per_second:
            time.sleep(len(piece) / self.server.bytes_per_second)

    def send_json(self, answer: dict, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_head(status, len(body))
        self.wfile.write(body)

    def send_head(self, status: int, length: int, content_range: str | None = None) -> None:
        self.seen.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", f"bytes {content_range}")
        self.end_headers()

    def log_message(self, *args) -> None:
        pass  # LocalHub.seen holds the requests


class LocalHub(ThreadingHTTPServer):
    """Serves `folder` as the model `model_id` on 127.0.0.1, each file at `bytes_per_second` if given.

    Use `with`, or start() and stop(). `seen` is the list of requests: kind ("list", "file" or "other"), path,
    status, start (first byte asked for) and sent (bytes).
    """

    def __init__(self, folder=EMBEDDED_MODEL, model_id=EMBEDDED_MODEL_ID, bytes_per_second=None, port=0):
        if model_id == REAL_MODEL_ID:
            raise ValueError(f"The local hub serves a stand-in, which must not be called {REAL_MODEL_ID}.")
        super().__init__(("127.0.0.1", port), Handler)
        self.folder, self.model_id, self.bytes_per_second = Path(folder), model_id, bytes_per_second
        self.revision, self.seen, url = "master", [], f"http://127.0.0.1:{self.server_port}"
        # What a client needs to find this hub. Without NO_PROXY, a set http_proxy would take the calls.
        self.environment = {"MODELSCOPE_ENDPOINT": url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def files(self) -> dict[str, Path]:
        """The model's files by their path in the repository, without the scripts and texts that made it."""
        files = {f.relative_to(self.folder).as_posix(): f for f in self.folder.rglob("*") if f.is_file()}
        return {path: files[path] for path in sorted(files) if not re.search(r"\.py|^corpus/", path)}

    def listing(self) -> list[dict]:
        """What the hub says about its files: path, size in bytes and sha256 of each."""
        files = [(path, file.read_bytes()) for path, file in self.files().items()]
        return [{"Path": p, "Size": len(b), "Sha256": hashlib.sha256(b).hexdigest()} for p, b in files]

    def start(self) -> "LocalHub":
        """Answer from now on, and point ModelScope's client in this process here."""
        self._before = {name: os.environ.get(name) for name in self.environment}
        _set_environment(self.environment)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        _set_environment(self._before)

    def __enter__(self) -> "LocalHub":
        return self.start()

    def __exit__(self, *error) -> None:
        self.stop()

    def handle_error(self, *args) -> None:
        pass  # a client that goes away in the middle of a file is nothing to report


def _set_environment(values: dict[str, str | None]) -> None:
    """Set or unset variables, and let a client that remembers the old ones read them again."""
    for name, value in values.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    if client := sys.modules.get("modelscope_hub"):
        client.set_default_config(None)


if __name__ == "__main__":
    with LocalHub(port=8733) as hub:
        print(f"A stand-in for modelscope.cn, on this machine only. Its one model is {hub.model_id}, a toy.")
        input(f"Settings for a client: {hub.environment}. Enter stops the hub.\n")
