"""The end of README's first command: an answer of the model in the terminal, then notebook 04 in JupyterLab.

    python -m helpers.start

JupyterLab listens on 127.0.0.1 only, also on a rented machine: a browser on another computer reaches it
through an SSH tunnel, and what to type for it is printed.
"""

import getpass
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from helpers.language import ENGLISH, language, say, to_say

QUESTION = "Give me a short introduction to large language model."
NOTEBOOK = "04_inference.ipynb"
ROOT = Path(__file__).resolve().parents[1]

READY = to_say("""
JupyterLab is ready. Open this address in a browser, if none has opened by itself:

    {address}

It works on this machine only. If your browser is on another computer, open a terminal there and type the
command with which you log in here, with -N -L {port}:127.0.0.1:{port} after the word ssh (where yours has -p
and a number, keep them). Leave that terminal open, and open the address:

    ssh -N -L {port}:127.0.0.1:{port} {user}@this-machine

In the notebook: menu Run, then Run All Cells. Ctrl-C in this terminal ends JupyterLab.
""")

ALREADY_RUNS = to_say("""
JupyterLab already runs from this Python environment. Open {notebook} in its page, or this address:

    {address}
""")

ANOTHER_RUNS = to_say("""
Another JupyterLab already runs here, from another Python environment: its notebooks do not find what was
installed here, so a second one is started. To use the first one, install the course into its environment
(README.md, "On AutoDL").
""")


def notebook_path() -> str:
    """The notebook in the reader's language, below the folder of the course."""
    path = f"notebooks/{language()}/{NOTEBOOK}"
    if (ROOT / path).is_file():
        return path
    return f"notebooks/{ENGLISH}/{NOTEBOOK}"


def ask(question: str) -> int:
    """Let the model answer in the terminal, by the command that a learner would type; returns its exit code.

    It runs in a process of its own, so that the memory of the model is free again when the notebook loads it.
    """
    print(f'$ python -m helpers.inference "{question}"\n', flush=True)
    return subprocess.run([sys.executable, "-m", "helpers.inference", question], cwd=ROOT).returncode


def has_desktop() -> bool:
    """Whether a browser can show a page: on a screen, or through $BROWSER, which editors' terminals set."""
    if sys.platform == "darwin":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def runs_on_this_python(pid: int) -> bool:
    """Whether a process has loaded packages of this environment; OSError where Linux's /proc is missing."""
    return sysconfig.get_path("platlib") + "/" in Path(f"/proc/{pid}/maps").read_text()


def find_running_lab() -> dict | None:
    """The JupyterLab of this user that runs from this environment and shows the course: its own description.

    None if there is none; says so where one runs from another environment. Looks on Linux only: elsewhere a
    second JupyterLab is started, on the next port, which does no harm.
    """
    from jupyter_server.serverapp import list_running_servers  # imported late: takes half a second

    for server in list_running_servers():
        if not ROOT.is_relative_to(Path(server["root_dir"]).resolve()):
            continue
        try:
            if runs_on_this_python(server["pid"]):
                return server
        except OSError:
            continue
        print(say(ANOTHER_RUNS), flush=True)
    return None


def point_to(server: dict) -> None:
    """Say where the notebook is in a JupyterLab that already runs."""
    notebook = (ROOT / notebook_path()).relative_to(Path(server["root_dir"]).resolve()).as_posix()
    address = f"{server['url']}lab/tree/{notebook}?token={server['token']}"
    print(say(ALREADY_RUNS, notebook=notebook, address=address), flush=True)


def run_lab() -> None:
    """Run JupyterLab, with notebook 04 open, until Ctrl-C. Where its port is taken, it takes another one."""
    from jupyterlab.labapp import LabApp  # imported late: takes a second

    notebook = notebook_path()
    token = secrets.token_hex(24)
    options = [
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{notebook}",
        "--ServerApp.ip=127.0.0.1",
        # These options stay inside this process: `ps` does not show the token to other users of the machine.
        f"--IdentityProvider.token={token}",
        # Most rented machines log you in as root. JupyterLab refuses that because a server that others can
        # reach would run commands as root; the two options above keep others out.
        "--ServerApp.allow_root=True",
        "--ServerApp.log_level=ERROR",
        "--LabApp.log_level=ERROR",
        f"--ServerApp.open_browser={has_desktop()}",
    ]
    server = LabApp.initialize_server(options)

    def stop() -> None:
        print("\n" + say("JupyterLab ends, and its notebooks' kernels with it."), flush=True)
        server.stop()

    def announce() -> None:
        address = f"{server.connection_url}lab/tree/{notebook}?token={token}"
        print(say(READY, address=address, port=server.port, user=getpass.getuser()), flush=True)

    # JupyterLab's own handler would ask whether Ctrl-C is meant. The loop calls this one between two of its
    # tasks: in the middle of one, a connection that has just come would lose its server: a traceback.
    for ending in (signal.SIGINT, signal.SIGTERM):
        server.io_loop.asyncio_loop.add_signal_handler(ending, stop)
    # The first thing that the loop does is to take the port; the second is this.
    server.io_loop.add_callback(announce)
    server.start()


def main() -> int:
    """Answer a question, then open the notebook. Returns the exit code."""
    if importlib.util.find_spec("jupyterlab") is None:
        sentence = say("JupyterLab is not installed here: run pip install -r requirements.txt first.")
        print(sentence, file=sys.stderr)
        return 1
    try:
        code = ask(QUESTION)
        if code != 0:
            return code
        running = find_running_lab()
        if running:
            point_to(running)
        else:
            run_lab()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
