"""Who holds GPU memory: often the kernel of another notebook, which then only has to be shut down."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from helpers.environment.nvidia_smi import SECONDS, ask
from helpers.language import listed, say
from helpers.terminal import figures_of


class Holder(NamedTuple):
    """A process that holds GPU memory; `used` as nvidia-smi writes it, such as "17408 MiB", or ""."""

    pid: int
    name: str
    used: str
    is_kernel: bool = False  # of a notebook

    @property
    def text(self) -> str:
        """As in "process 4711 (the kernel of 02_vram.ipynb, 17408 MiB)"."""
        details = [detail for detail in (self.name, self.used) if detail]
        if not details:
            return say("process {pid}", pid=self.pid)
        return say("process {pid} ({details})", pid=self.pid, details=figures_of(details))


def read_holders(seconds: float = SECONDS, root: str = "/") -> list[Holder]:
    """The processes that hold GPU memory: those that nvidia-smi shows, else those that have a GPU open.

    In a container nvidia-smi often shows none, or numbers of processes that mean nothing in here.
    """
    query = ["--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    try:
        text = ask(query, seconds).text
    except OSError:
        text = ""
    with_a_gpu = processes_with_a_gpu(root)
    holders = []
    for line in text.splitlines():
        row = re.fullmatch(r"(\d+), (.+), ([^,]+)", line.strip())
        if row and row[2] != "[Not Found]":
            pid = int(row[1])
            holder = Holder(pid, "", row[3])
            if pid in with_a_gpu or pid == os.getpid():  # else it may be a number of the host's
                holder = describe(pid, row[3], root)
            if not holder.name:
                # Without the folders, which say nothing here.
                holder = holder._replace(name=Path(row[2]).name)
            holders.append(holder)
    if holders:
        return holders
    return [describe(pid, "", root) for pid in with_a_gpu]


def gpu_holders(seconds: float = SECONDS, root: str = "/") -> str:
    """Who holds GPU memory and what to do about it, in two sentences."""
    holders = read_holders(seconds, root)
    if not holders:
        return say(
            "GPU memory is held by processes that nvidia-smi does not show in this container. "
            "Shut down the kernels of other notebooks, or restart the machine."
        )
    processes = listed([holder.text for holder in holders])
    if any(holder.is_kernel for holder in holders):
        return say(
            "GPU memory is held by {processes}. "
            "Shut down that kernel (in JupyterLab: the list of running kernels at the left edge).",
            processes=processes,
        )
    if any(holder.pid == os.getpid() for holder in holders):
        return say(
            "GPU memory is held by {processes}. Restart this kernel to free what it holds.",
            processes=processes,
        )
    return say("GPU memory is held by {processes}. End it, or wait for its end.", processes=processes)


def describe(pid: int, used: str, root: str = "/") -> Holder:
    """A process: "this one", "the kernel of 02_vram.ipynb", or its program's name; "" if that is unknown."""
    if pid == os.getpid():
        return Holder(pid, say("this one"), used)
    folder = Path(root, "proc", str(pid))
    words = _words(folder / "cmdline")
    if any("ipykernel" in word for word in words):
        return Holder(pid, _kernel_name(folder), used, is_kernel=True)
    if words:
        return Holder(pid, Path(words[0]).name, used)
    return Holder(pid, "", used)


def _kernel_name(folder: Path) -> str:
    """Which notebook's kernel a process is. `folder`: of the process in /proc."""
    for variable in _words(folder / "environ"):
        if variable.startswith("JPY_SESSION_NAME="):  # set by Jupyter's server: path of the notebook
            notebook = Path(variable.partition("=")[2]).name
            if notebook:
                return say("the kernel of {notebook}", notebook=notebook)
    return say("the kernel of another notebook")


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
