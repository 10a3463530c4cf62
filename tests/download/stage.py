"""A learner's machine for the tests of the download: a small model, a hub with faults, and the command."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from helpers.download import command, manifest
from helpers.download.local_hub import Handler, LocalHub

MODEL_ID = "somebody/small-model"
SHARD = "model-00002-of-00003.safetensors"
PATIENCE = 60  # seconds; a net for a process that hangs, none takes more than a few


def make_model(folder: Path, shard_bytes: int = 600_000) -> Path:
    """A model folder in the layout of a real one: three shards with an index, a config, an empty file."""
    generator = random.Random(0)
    weight_map = {}
    folder.mkdir(parents=True)
    for number in (1, 2, 3):
        name = f"model-{number:05}-of-00003.safetensors"
        tensor = f"model.layers.{number}.weight"
        write_shard(folder / name, tensor, generator.randbytes(shard_bytes))
        weight_map[tensor] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text('{"model_type": "none"}')
    (folder / "docs").mkdir()
    (folder / "docs" / "empty.md").write_text("")
    return folder


def write_shard(path: Path, tensor: str, content: bytes) -> None:
    """A safetensors file with one tensor of bytes."""
    entry = {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}
    header = json.dumps({tensor: entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


def total_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "what the test waits for does not happen"
        time.sleep(0.02)


class FaultyHandler(Handler):
    """Asks the hub's hooks first: True means answered, bytes replace a piece, an error cuts the line."""

    def send_json(self, answer, status=200):
        if self.seen.kind == "list" and self.server.on_list(self):
            return
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


def no_fault(handler: Handler, *arguments) -> None:
    """A hook that lets everything pass."""


class FaultyHub(LocalHub):
    """A hub whose answers a test can spoil by three hooks, and whose list it can change."""

    def __init__(self, folder: Path):
        super().__init__(folder, MODEL_ID)
        self.RequestHandlerClass = FaultyHandler
        self.heal()

    def heal(self) -> None:
        """No fault from now on, and no memory of what was asked before."""
        self.on_list = no_fault
        self.on_file = no_fault
        self.on_piece = no_fault
        self.change = lambda entries: entries
        self.bytes_per_second = None
        self.seen.clear()

    def file_list(self) -> list[dict]:
        return self.change(super().file_list())

    def sent(self) -> dict[str, int]:
        """Bytes of files that were sent, by file."""
        paths = {request.path for request in self.seen if request.kind == "file"}
        return {path: sum(r.sent for r in self.seen if r.path == path) for path in paths}


def flip(handler: Handler, piece: bytes) -> bytes:
    """Change one byte on the wire."""
    return piece[:-1] + bytes([piece[-1] ^ 1])


def times(count: int, fault: Callable) -> Callable:
    """A hook that has a fault `count` times and then none."""
    left = [count]

    def hook(handler, *arguments):
        left[0] -= 1
        if left[0] < 0:
            return None
        return fault(handler, *arguments)

    return hook


def cut(*arguments) -> None:
    """Break off the connection."""
    raise ConnectionError


class Pause:
    """A hook for pieces: after the first piece of each file the hub waits until `go_on` is set."""

    def __init__(self):
        self.go_on = threading.Event()

    def __call__(self, handler: Handler, piece: bytes) -> None:
        if handler.seen.sent:
            self.go_on.wait(PATIENCE)


def fault_of(fault: Callable, path: str = SHARD) -> Callable:
    """A hook for files that has the fault for one of them only."""

    def hook(handler, *arguments):
        if handler.seen.path != path:
            return None
        return fault(handler, *arguments)

    return hook


# Each process is forked from one that has imported the client: importing it takes half a second every time.
# The client pauses for up to a minute between attempts, here for 1 second; it reads that when it is imported.
os.environ["MODELSCOPE_DOWNLOAD_RETRY_MAX_DELAY_SECONDS"] = "1"
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "helpers.download.command"])


def run_command(arguments: list[str], environment: dict[str, str], output: Path) -> None:
    """`python -m helpers.download` with these arguments and this environment, in a process of its own."""
    os.environ.clear()
    os.environ.update(environment)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(command.main(arguments))


def screen(process) -> str:
    """All that a process has written so far, with every return of a bar."""
    if not process.output.exists():
        return ""
    return process.output.read_bytes().decode()  # read_text would turn returns into ends of lines


class Stage:
    """A hub, a cache folder and the commands of a learner."""

    def __init__(self, tmp_path: Path):
        self.tmp = tmp_path
        self.cache = tmp_path / "cache"
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
    def folder(self) -> Path:
        """Where the client of this version puts the model."""
        return self.cache / "models" / MODEL_ID.replace("/", "--") / "snapshots" / self.hub.revision

    def start(self, action="download", *options, model=MODEL_ID):
        """Start the command in a process of its own."""
        output = self.tmp / f"output-{len(self.outputs)}"
        self.outputs.append(output)
        arguments = [action, str(model), "--cache-dir", str(self.cache), *options]
        process = PROCESSES.Process(target=run_command, args=(arguments, self.environment, output))
        process.output = output
        process.start()
        return process

    def finish(self, process) -> tuple[int, str]:
        """Exit status and the lines that stand on the learner's screen at the end."""
        process.join(PATIENCE)
        process.kill()  # nothing, if it has ended as it should
        # A bar overwrites its own line, so of each line only what follows the last return counts.
        lines = [line.rpartition("\r")[2] for line in screen(process).split("\n")]
        text = "\n".join(line for line in lines if line.strip())
        assert "Traceback" not in text, text
        return process.exitcode, text

    def run(self, *arguments, **options) -> tuple[int, str]:
        """Run the command to its end."""
        return self.finish(self.start(*arguments, **options))

    def on_disk(self) -> dict[str, int]:
        """Size of each file in the model's folder, complete or not."""
        return {
            file.relative_to(self.folder).as_posix(): file.stat().st_size
            for file in self.folder.rglob("*")
            if file.is_file()
        }

    def refused(self, *words) -> str:
        """The download ends with one sentence that has these words, and no folder counts as a model."""
        status, text = self.run()
        assert status == 1, text
        assert len(text.splitlines()) == 1, text
        assert not [word for word in words if str(word) not in text], text
        assert manifest.read(self.folder) is None
        return text

    def completes(self, *options) -> str:
        """One more call completes: every byte is right, and an offline check agrees."""
        self.hub.heal()
        status, text = self.run("download", *options)
        assert status == 0, text
        for path, file in self.hub.files().items():
            assert (self.folder / path).read_bytes() == file.read_bytes()
        assert not list(self.folder.rglob("*.incomplete"))
        assert self.run("verify", "--full", *options)[0] == 0
        return text
