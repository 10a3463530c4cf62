"""torchrun for one node: `python helpers/speed/node.py FOLDER ADDRESS PORT NODES NUMBER PROCESSES`.

    torchrun --nnodes NODES --node-rank NUMBER --nproc-per-node PROCESSES
             --master-addr ADDRESS --master-port PORT -m helpers.speed.rank FOLDER

does the same, with one difference: the list in which the processes find each other (a TCPStore) would listen
on every address of this computer, so that others in the network could write to it. Here the first node makes
it beforehand, on ADDRESS only, and torchrun takes the one that is there: `multi_tenant` means that there is
one for each port, and `master_listen_fd` hands it an open socket (both in PyTorch's documentation).
"""

import errno
import json
import socket
import sys
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore, run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

STORE_PATIENCE = timedelta(seconds=120)  # for another node to answer


def open_store(address: str, port: int) -> TCPStore:
    """The list of processes, on this address only. OSError if the port is in use."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    listener.listen()
    return TCPStore(
        address,
        port,
        is_master=True,
        timeout=STORE_PATIENCE,
        wait_for_workers=False,
        multi_tenant=True,
        master_listen_fd=listener.detach(),
    )


def note_failure(folder: Path, error: OSError, address: str, port: str) -> None:
    """Write down for whoever started this what the first node cannot listen on: the port, or the address."""
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        (folder / "node_0.port").write_text(port, encoding="utf-8")
    else:
        (folder / "node_0.address").write_text(address, encoding="utf-8")


def main() -> None:
    folder, address, port, nodes, number, processes = sys.argv[1:]
    store = None
    if number == "0":
        try:
            store = open_store(address, int(port))
        except OSError as error:
            note_failure(Path(folder), error, address, port)
            raise
    arguments = ["--nnodes", nodes, "--node-rank", number, "--nproc-per-node", processes]
    arguments += ["--master-addr", address, "--master-port", port]
    try:
        run.main([*arguments, "-m", "helpers.speed.rank", folder])
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        Path(folder, f"node_{number}.json").write_text(json.dumps(codes), encoding="utf-8")
        raise
    finally:
        del store  # kept until here: torchrun uses it only as long as somebody holds it


if __name__ == "__main__":
    main()
