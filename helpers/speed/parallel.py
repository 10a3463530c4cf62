"""Run a model in several processes, on one "node" or several, and compare it with one process.

    for shared in share_out("helpers/embedded_model", ["tensor", "experts", "pipeline"], processes=2):
        print(shared)

torchrun starts the processes, also called ranks after their numbers: `helpers.speed.node` is torchrun for one
node, and each process runs `helpers.speed.rank`. They talk over gloo, on the CPU. All ways run in one launch,
since most of its time goes into starting Python. Everybody writes a file of its own into one folder, because
lines that several processes print at once get mixed.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # comes with accelerate and with ipykernel

from helpers import CourseError
from helpers.inference.model_folder import folder_of, weights_bytes
from helpers.language import say
from helpers.speed.arguments import check_list, check_seconds, check_whole
from helpers.speed.failures import failed_launch, late_launch
from helpers.speed.processes import LOOPBACK, Child, check_port, python_file, start_on
from helpers.speed.ways import check_way, read_shape

LAUNCH_PATIENCE = 300  # seconds for a whole launch; a small model takes about ten
LOOK_AGAIN = 0.1  # seconds between two looks
FOLLOW = 5  # seconds in which the other nodes notice that one has failed
QUESTION = "What is a token?"
NODE = Path(__file__).with_name("node.py")
CLOSE = 1e-4  # the largest difference of logits that still counts as equal


@dataclass(frozen=True)
class Node:
    """A computer of a launch, or what plays one."""

    interface: str = ""
    """The network interface through which its processes talk; "": the loopback one."""
    prefix: tuple[str, ...] = ()
    """In front of its command, such as `ip netns exec NAME`."""


@dataclass(frozen=True)
class Shared:
    """What came of one way to share a model out. Bytes of weights in fp32."""

    way: str
    whole_bytes: int
    """Of the whole model."""
    process_bytes: tuple[int, ...]
    """Of each process."""
    same_tokens: bool
    """Whether every process wrote the tokens that one process writes alone."""
    largest_difference: float
    """Between the logits of the prompt that any process computed and those of one process alone."""

    @property
    def close(self) -> bool:
        """Whether no logit differs by more than `CLOSE`."""
        return self.largest_difference <= CLOSE


def share_out(
    model_dir: str | Path,
    ways: Sequence[str],
    processes: int = 2,
    *,
    nodes: Sequence[Node] = (Node(),),
    address: str = LOOPBACK,
    port: int | None = None,
    new_tokens: int = 16,
    patience: float = LAUNCH_PATIENCE,
) -> list[Shared]:
    """Run the model in so many processes, each of `ways` in turn, and compare it with one process.

    Computes on the CPU in fp32, so it is for a small model: one process, for comparison, needs 4 bytes for
    each parameter. The processes are spread evenly over the `nodes`; `address` is that of the first one, and
    `port` the one at which the processes find each other (None: a free one).

    CourseError when the model cannot be shared out so, or the port is in use. LaunchError, a CourseError with
    the log, when a process fails, is killed, or has not finished after `patience` seconds. All processes have
    ended when this returns or raises.
    """
    check_wishes(ways, processes, nodes, new_tokens)
    check_seconds("patience", patience)
    folder = folder_of(model_dir).absolute()
    weights_bytes(folder)
    shape = read_shape(folder)
    for way in ways:
        check_way(shape, way, processes)
    if port is not None and address == LOOPBACK:
        check_port(port)
    with tempfile.TemporaryDirectory() as folder_of_launch:
        exchange = Path(folder_of_launch)
        whole_bytes = write_task(exchange, folder, ways, new_tokens)
        launch(exchange, processes, nodes, address, port, patience)
        return [read_result(exchange, way, processes, whole_bytes) for way in ways]


def launch(
    exchange: Path, processes: int, nodes: Sequence[Node], address: str, port: int | None, patience: float
) -> None:
    """Start the processes and wait until all have finished; LaunchError when they do not."""

    def run_on(chosen: int) -> None:
        for file in exchange.glob("node_*"):
            file.unlink()  # what a launch has said whose port was taken
        with launched(exchange, processes, nodes, address, chosen) as children:
            wait_for(children, exchange, processes, patience)

    start_on(port, run_on)


def check_wishes(ways: Sequence[str], processes: int, nodes: Sequence[Node], new_tokens: int) -> None:
    """CourseError for what no model can be shared out with."""
    check_list("ways", ways, example="['tensor', 'pipeline']")
    check_list("nodes", nodes, example="[Node()]")
    check_whole("processes", processes, least=1)
    check_whole("new_tokens", new_tokens, least=1)
    if processes % len(nodes):
        raise CourseError(
            say(
                "{processes} processes cannot be spread evenly over {nodes} nodes: take a multiple of them.",
                processes=processes,
                nodes=len(nodes),
            )
        )


def write_task(exchange: Path, folder: Path, ways: Sequence[str], new_tokens: int) -> int:
    """Write down what to do, and what one process makes of it; return the bytes of the whole model."""
    from safetensors.torch import save_file  # imported late: torch takes seconds
    from transformers import logging

    from helpers.speed.rank import answer_to, bytes_held, load_part

    logging.disable_progress_bar()
    model, input_ids = load_part(folder, QUESTION)
    tokens, logits = answer_to(model, input_ids, new_tokens)
    save_file({"logits": logits.contiguous()}, exchange / "one_process.safetensors")
    task = {
        "folder": str(folder),
        "question": QUESTION,
        "ways": list(ways),
        "new_tokens": new_tokens,
        "tokens": tokens,  # of one process
    }
    (exchange / "task.json").write_text(json.dumps(task), encoding="utf-8")
    return bytes_held(model)


@contextmanager
def launched(
    exchange: Path, processes: int, nodes: Sequence[Node], address: str, port: int
) -> Iterator[list[Child]]:
    """Start torchrun on each node; in the end no process is left, whatever happened."""
    children: list[Child] = []
    try:
        for number, node in enumerate(nodes):
            command = [*node.prefix, *python_file(NODE), str(exchange)]
            command += [address, str(port), str(len(nodes)), str(number), str(processes // len(nodes))]
            child = Child(
                command,
                GLOO_SOCKET_IFNAME=node.interface or loopback_interface(),
                OMP_NUM_THREADS="1",  # the processes share the cores
                CUDA_VISIBLE_DEVICES="",
            )
            children.append(child)
        yield children
    finally:
        for child in children:
            child.end()


def loopback_interface() -> str:
    """Name of the network interface that has the address 127.0.0.1: lo on Linux, lo0 on a Mac."""
    for name, addresses in psutil.net_if_addrs().items():
        if LOOPBACK in [entry.address for entry in addresses]:
            return name
    return "lo"


def wait_for(children: list[Child], exchange: Path, processes: int, patience: float) -> None:
    """Return when every node has ended well; LaunchError when one has failed, or time is up."""
    end = time.monotonic() + patience
    failed = False
    while any(child.exit_status is None for child in children):
        if not failed and any(child.exit_status for child in children):
            failed = True
            end = min(end, time.monotonic() + FOLLOW)  # the others hear of it by themselves, mostly
        if time.monotonic() > end:
            break
        time.sleep(LOOK_AGAIN)
    statuses = [child.exit_status for child in children]
    if all(status == 0 for status in statuses):
        return
    log = "\n".join(child.log() for child in children)
    if any(statuses):
        raise failed_launch(exchange, log)
    raise late_launch(exchange, processes, patience, log)


def read_result(exchange: Path, way: str, processes: int, whole_bytes: int) -> Shared:
    """Put together what the processes have written about one way."""
    results = []
    for rank in range(processes):
        text = (exchange / f"rank_{rank}.json").read_text(encoding="utf-8")
        results.append(json.loads(text)[way])
    return Shared(
        way=way,
        whole_bytes=whole_bytes,
        process_bytes=tuple(result["bytes"] for result in results),
        same_tokens=all(result["same_tokens"] for result in results),
        largest_difference=max(result["largest_difference"] for result in results),
    )
