"""The script that runs notebooks on a cut of the real model, tried on a narrow cut and short notebooks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from run_on_cut_model import INTERRUPTED, difference_in_kind

SCRIPT = Path(__file__).parent / "run_on_cut_model.py"
PATIENCE = 600  # seconds; a net, it takes about a quarter of a minute

LOAD = """from helpers import choose_model
from helpers.inference import load, stream_chat

model, tokenizer = load(choose_model())
print(model.config.num_hidden_layers, "layers of", model.config.num_experts, "experts")"""
ANSWER = """stream = stream_chat(model, tokenizer, [{"role": "user", "content": "?"}], do_sample=False)
text = "".join(stream)
print("ended by itself:", stream.finish_reason == "stop")"""
SLEEP = """import os, time
open("pid", "w").write(str(os.getpid()))
time.sleep(600)"""


def write_notebook(path: Path, *cells: tuple[str, str]) -> Path:
    """A notebook of code cells (source, stored output)."""
    notebook = nbformat.v4.new_notebook()
    for source, text in cells:
        cell = nbformat.v4.new_code_cell(source)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        notebook.cells.append(cell)
    nbformat.write(notebook, path)
    return path


def start(notebook: Path, folder: Path) -> subprocess.Popen:
    """The script on one notebook; it works in `folder`."""
    folder.mkdir()
    command = [sys.executable, str(SCRIPT), "--tiny", "--folder", str(folder), str(notebook)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_notebook_runs_on_the_cut_and_what_differs_is_stated(tmp_path):
    notebook = write_notebook(
        tmp_path / "short.ipynb",
        (LOAD, "Model: a\nWeights: b\nAttention: c\n2 layers of 60 experts\n"),
        (ANSWER, "ended by itself: True\n"),
        ("1 / 0", ""),
        ("print('after 12.5 tokens')", "after 3 tokens\n"),
    )
    process = start(notebook, tmp_path / "work")
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert "The cut: 2 layers of 60 experts" in said
    assert "short.ipynb: NOT every cell ran, 4 of 4" in said
    assert "FAILED: ZeroDivisionError: division by zero" in said
    assert "differs, line 1: stored 'Model: a', here 'Model: qwen1.5-moe-cut" in said
    assert said.count("differs") == 1  # neither the end of the answer nor another number
    assert not list((tmp_path / "work").iterdir())


def test_an_interrupt_stops_the_kernel_and_deletes_the_model(tmp_path):
    notebook = write_notebook(tmp_path / "sleep.ipynb", (SLEEP, ""))
    work = tmp_path / "work"
    process = start(notebook, work)
    end = time.monotonic() + PATIENCE
    pids = []
    while not pids and time.monotonic() < end and process.poll() is None:
        pids = [file for file in work.glob("*/notebooks/en/pid") if file.read_text()]
        time.sleep(0.2)
    kernel = int(pids[0].read_text())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == INTERRUPTED
    assert "Interrupted: what was made is deleted." in errors
    assert "Traceback" not in errors
    assert not list(work.iterdir())
    assert not is_running(kernel)


def test_only_numbers_that_differ_are_no_difference_in_kind():
    assert difference_in_kind(["1,024  tokens: True"], ["7 tokens: True"]) == ""
    assert "line 1" in difference_in_kind(["agree: True"], ["agree: False"])
    assert "here '(nothing)'" in difference_in_kind(["a", "b"], ["a"])
    assert "stored '(nothing)'" in difference_in_kind([], ["a warning"])
