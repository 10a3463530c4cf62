"""Who holds GPU memory: often the kernel of another notebook, which then only has to be shut down."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from helpers.environment.nvidia_smi import SECONDS, ask

SHUT_DOWN = "Shut down that kernel (in JupyterLab: the list of running kernels at the left edge)."
LOOK = "Shut down the kernels of other notebooks, or restart the machine."


class Holder(NamedTuple):
    """A process that holds GPU memory; `used` as nvidia-smi writes it, such as "17408 MiB", or ""."""

    pid: int
    name: str
    used: str

    @property
    def text(self) -> str:
        """As in "4711 (the kernel of 02_vram.ipynb, 17408 MiB)"."""
        details = [self.name, self.used]
        return f"{self.pid} ({', '.join(detail for detail in details if detail)})"


def read_holders(seconds: float = SECONDS, root: str = "/") -> list[Holder]:
    """The processes that hold GPU memory: those that nvidia-smi shows, else those that have a GPU open.

    In a container nvidia-smi often shows none, or numbers of processes that mean nothing in here.
    """
    query = ["--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    try:
        text = ask(query, seconds)
    except OSError:
        text = ""
    with_a_gpu = processes_with_a_gpu(root)
    holders = []
    for line in text.splitlines():
        row = re.fullmatch(r"(\d+), (.+), ([^,]+)", line.strip())
        if row and row[2] != "[Not Found]":
            pid = int(row[1])
            name = Path(row[2]).name  # without the folders, which say nothing here
            if pid in with_a_gpu or pid == os.getpid():  # else it may be a number of the host's
                name = process_name(pid, root) or name
            holders.append(Holder(pid, name, row[3]))
    if holders:
        return holders
    return [Holder(pid, process_name(pid, root), "") for pid in with_a_gpu]


def gpu_holders(seconds: float = SECONDS, root: str = "/") -> str:
    """Who holds GPU memory and what to do about it, in two sentences."""
    holders = read_holders(seconds, root)
    if not holders:
        return f"GPU memory is held by processes that nvidia-smi does not show in this container. {LOOK}"
    names = ", ".join(holder.text for holder in holders)
    said = f"GPU memory is held by process {names}."
    kernels = [holder for holder in holders if holder.name.startswith("the kernel")]
    if kernels:
        return f"{said} {SHUT_DOWN}"
    if any(holder.pid == os.getpid() for holder in holders):
        return f"{said} Restart this kernel to free what it holds."
    return f"{said} End it, or wait for its end."


def process_name(pid: int, root: str = "/") -> str:
    """What a process is: "this one", "the kernel of 02_vram.ipynb", or its program's name; "" if unknown."""
    if pid == os.getpid():
        return "this one"
    folder = Path(root, "proc", str(pid))
    words = _words(folder / "cmdline")
    if any("ipykernel" in word for word in words):
        notebook = ""
        for variable in _words(folder / "environ"):
            if variable.startswith("JPY_SESSION_NAME="):  # set by Jupyter's server: path of the notebook
                notebook = Path(variable.partition("=")[2]).name
        return f"the kernel of {notebook or 'another notebook'}"
    if words:
        return Path(words[0]).name
    return ""


def processes_with_a_gpu(root: str = "/") -> list[int]:
    """Numbers of the other processes that have a GPU's device file open, as far as this user may look."""
    found = []
    for folder in Path(root, "proc").glob("[0-9]*"):
        try:
            targets = [os.readlink(link) for link in (folder / "fd").iterdir()]
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if int(folder.name) != os.getpid() and any(re.match(r"/dev/nvidia\d", name) for name in targets):
            found.append(int(folder.name))
    return sorted(found)


def _words(path: Path) -> list[str]:
    """The words of a file of /proc that separates them by zero bytes."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    return [word for word in text.split("\0") if word]
