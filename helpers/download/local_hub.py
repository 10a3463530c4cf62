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
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID
from helpers.language import say
from helpers.model_names import EMBEDDED_MODEL_ID, same_model

PIECE = 2**18  # bytes sent at once
NOT_SERVED = re.compile(r"\.py|^corpus/|\.zh\.md$")  # what made the toy, and its card in Chinese


@dataclass
class Request:
    """One request that the hub saw.

    kind: "list", "file" or "other". path: the file's, else the URL's. start: first byte asked for. status: of
    the answer. sent: bytes of the file that went out.
    """

    kind: str
    path: str
    start: int = 0
    status: int = 0
    sent: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. Tests inject faults by overriding its methods."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the list of files, with a file, or with a 404 that says what is here."""
        hub = self.server
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        path = query.get("FilePath", "")
        kind = hub.kind_of(url.path)
        known = query.get("Revision") == hub.revision
        self.seen = Request(kind, path or url.path)
        hub.seen.append(self.seen)
        if kind == "list" and known:
            self.send_json({"Code": 200, "Success": True, "Data": {"Files": hub.file_list()}})
        elif kind == "file" and known and path in hub.files():
            self.send_file(hub.files()[path])
        else:
            self.send_json({"Code": 404, "Success": False, "Message": f"only {hub.model_id} is here"}, 404)

    def send_file(self, file: Path) -> None:
        """Send one file, or the part of it that a Range header asks for."""
        size = file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.send_head(200, size)
            self.send_bytes(file, 0, size)
            return
        start = int(asked[1])
        end = size  # first byte that is not sent
        if asked[2]:
            end = min(int(asked[2]) + 1, size)
        self.seen.start = start
        if start >= end:
            self.send_head(416, 0, f"*/{size}")
            return
        self.send_head(206, end - start, f"{start}-{end - 1}/{size}")
        self.send_bytes(file, start, end)

    def send_bytes(self, file: Path, start: int, end: int) -> None:
        """Send the bytes from `start` up to, not including, `end`."""
        with file.open("rb") as stream:
            stream.seek(start)
            left = end - start
            while left > 0:
                piece = stream.read(min(PIECE, left))
                if not piece:
                    break
                left -= len(piece)
                self.send_piece(piece)

    def send_piece(self, piece: bytes) -> None:
        """Send some bytes of a file, at the speed that the hub is set to."""
        self.wfile.write(piece)
        self.seen.sent += len(piece)
        if self.server.bytes_per_second:
            time.sleep(len(piece) / self.server.bytes_per_second)

    def send_json(self, answer: dict, status: int = 200) -> None:
        """Send an answer that is no file."""
        body = json.dumps(answer).encode()
        self.send_head(status, len(body))
        self.wfile.write(body)

    def send_head(self, status: int, length: int, content_range: str | None = None) -> None:
        """Send status and headers; `length` in bytes, `content_range` as HTTP writes it after "bytes"."""
        self.seen.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", f"bytes {content_range}")
        self.end_headers()

    def log_message(self, *args) -> None:
        """Print nothing: LocalHub.seen holds the requests."""


class LocalHub(ThreadingHTTPServer):
    """Serves `folder` as the model `model_id` on 127.0.0.1, each file at `bytes_per_second` if given.

    Use `with`, or start() and stop(). `seen` is the list of requests.
    """

    def __init__(
        self,
        folder: str | Path = EMBEDDED_MODEL,
        model_id: str = EMBEDDED_MODEL_ID,
        bytes_per_second: float | None = None,
        port: int = 0,
    ):
        if same_model(model_id, REAL_MODEL_ID):
            raise ValueError(
                say("The local hub serves a stand-in, which must not be called {model}.", model=REAL_MODEL_ID)
            )
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = Path(folder)
        self.model_id = model_id
        self.revision = "master"
        self.bytes_per_second = bytes_per_second
        self.seen: list[Request] = []
        self.hashes: dict[tuple, str] = {}  # sha256 by path, size and time of change
        # What a client needs to find this hub. Without NO_PROXY, a set http_proxy would take the calls.
        self.environment = {
            "MODELSCOPE_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def kind_of(self, url_path: str) -> str:
        """What the path of a URL asks this hub for; as on ModelScope, an id is the same in either case."""
        path = url_path.casefold()
        base = f"/api/v1/models/{self.model_id}/repo".casefold()
        if path == f"{base}/files":
            return "list"
        if path == base:
            return "file"
        return "other"

    def files(self) -> dict[str, Path]:
        """The model's files by their path in the repository, without the scripts and texts that made it."""
        found = {}
        for file in sorted(self.folder.rglob("*")):
            path = file.relative_to(self.folder).as_posix()
            if file.is_file() and not NOT_SERVED.search(path):
                found[path] = file
        return dict(sorted(found.items()))

    def file_list(self) -> list[dict]:
        """What the hub says about its files: path, size in bytes and sha256 of each."""
        return [
            {"Path": path, "Size": file.stat().st_size, "Sha256": self.sha256(file)}
            for path, file in self.files().items()
        ]

    def sha256(self, file: Path) -> str:
        """sha256 of a file of any size, read block by block, and once only as long as it does not change."""
        state = file.stat()
        key = (file, state.st_size, state.st_mtime_ns)
        if key not in self.hashes:
            with file.open("rb") as stream:
                self.hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self.hashes[key]

    def start(self) -> "LocalHub":
        """Answer from now on, and point ModelScope's client in this process here."""
        self.before = {name: os.environ.get(name) for name in self.environment}
        set_environment(self.environment)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop answering, and give the client its old settings back."""
        self.shutdown()
        self.server_close()
        set_environment(self.before)

    def __enter__(self) -> "LocalHub":
        return self.start()

    def __exit__(self, *error) -> None:
        self.stop()

    def handle_error(self, *args) -> None:
        """Print nothing: a client that goes away in the middle of a file is nothing to report."""


def set_environment(values: dict[str, str | None]) -> None:
    """Set or unset variables, and let a client that remembers the old ones read them again."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    client = sys.modules.get("modelscope_hub")
    if client is not None:
        client.set_default_config(None)


if __name__ == "__main__":
    with LocalHub(port=8733) as hub:
        print(
            say(
                "A stand-in for modelscope.cn, on this machine only. Its one model is {model}, a toy.",
                model=hub.model_id,
            )
        )
        input(say("Settings for a client: {settings}. Enter stops the hub.\n", settings=hub.environment))
