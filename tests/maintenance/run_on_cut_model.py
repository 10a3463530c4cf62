"""Run the notebooks once on a cut of the real model: full width, two layers, random weights.

    python tests/maintenance/run_on_cut_model.py          notebooks 02, 04, 05, 06: 15 minutes on 2 cores
    python tests/maintenance/run_on_cut_model.py notebooks/en/06_routing.ipynb
    python tests/maintenance/run_on_cut_model.py --tiny   the same with a narrow cut, in a few minutes

The cut has the configuration of Qwen1.5-MoE-A2.7B-Chat but for the number of layers: 60 experts of full
width, the real vocabulary where the package `dashscope` is installed. It needs 5 GB of disk and 6 GB of RAM.
What a cell does not do at this size, or not in bearable time, is seen without a GPU and without a download.

The notebooks run as copies, top to bottom, on `COURSE_MODEL=<the cut>`; a cell that fails does not end the
run. For each notebook it prints whether every cell ran, how long it took, the slow cells, and where the text
of an output differs in kind from the stored one: in more than its numbers. With random weights the answers
must differ. Everything that was made is deleted at the end, also after Ctrl-C. The exit code is 1 if a cell
failed.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer

from helpers import EMBEDDED_MODEL, GB
from helpers.vram import REAL_CONFIG

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))  # for what several folders of tests use
from random_checkpoint import write_checkpoint  # noqa: E402
from real_vocabulary import build_tokenizer, read_ranks, vocabulary_file  # noqa: E402

NUMBERS = ("02", "04", "05", "06")  # the notebooks that load or describe a model
LAYERS = 2
TINY = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 128,
}
DISK_NEEDED = 5 * GB
RAM_NEEDED = 6 * GB
LONGEST = 3600  # seconds for one cell; a net, the slowest takes a few minutes
SLOW = 20  # seconds; a cell that takes longer is named
SHOWN = 100  # characters of a line that differs
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


@dataclass
class CellReport:
    """One code cell that was run: its place in the notebook, its id, and what came out."""

    number: int
    cell_id: str
    seconds: float
    error: str = ""
    difference: str = ""


@dataclass
class NotebookReport:
    """One notebook that was run; `died` says why the run ended before its last cell."""

    name: str
    cells: list[CellReport] = field(default_factory=list)
    code_cells: int = 0
    died: str = ""
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether every cell ran without an error."""
        return len(self.cells) == self.code_cells and not any(cell.error for cell in self.cells)


# The model


def cut_config(tiny: bool):
    """The real configuration with two layers; `tiny`: narrow, too."""
    config = AutoConfig.from_pretrained(REAL_CONFIG)
    config.num_hidden_layers = LAYERS
    config.layer_types = config.layer_types[:LAYERS]
    if tiny:
        config.update(TINY)
    return config


def write_cut(folder: Path, tiny: bool) -> str:
    """Write the model folder; returns a sentence about it."""
    folder.mkdir()
    config = cut_config(tiny)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_MODEL)
    words = "the embedded model's tokenizer"
    file = vocabulary_file()
    if tiny:
        config.vocab_size = len(tokenizer)
    elif file is not None:
        tokenizer = build_tokenizer(read_ranks(file))
        words = "the real vocabulary"
    set_control_tokens(config, tokenizer)
    write_checkpoint(folder, config, end_token=config.eos_token_id)
    tokenizer.save_pretrained(folder)
    write_generation_config(folder, config)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return (
        f"The cut: {LAYERS} layers of {config.num_experts} experts, hidden size {config.hidden_size}, random "
        f"weights of {size / GB:.2f} GB, {words}."
    )


def set_control_tokens(config, tokenizer) -> None:
    """The numbers of the tokens that end a turn and fill a batch, as this tokenizer has them."""
    config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config.pad_token_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config.bos_token_id = config.pad_token_id


def write_generation_config(folder: Path, config) -> None:
    """The real model's settings, which are the embedded model's but for the numbers of the control tokens."""
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["eos_token_id"] = [config.eos_token_id, config.pad_token_id]
    settings["pad_token_id"] = config.pad_token_id
    settings["bos_token_id"] = config.bos_token_id
    file.write_text(json.dumps(settings), encoding="utf-8")


# What a cell printed


def texts_of(outputs: list) -> list[str]:
    """The lines of what a reader sees of a cell: text, and for a picture that there is one."""
    lines = []
    for output in outputs:
        if output.output_type == "stream":
            text = output.text
        elif output.output_type == "error":
            text = f"{output.ename}: {output.evalue}"
        elif "image/png" in output.data:
            text = "(a picture)"
        else:
            text = output.data.get("text/plain", "")
        lines += text.rstrip().splitlines()
    return lines


def kind_of(line: str) -> str:
    """A line with 0 for every number, and one space for any number of them."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d,.]*", "0", line)).strip()


def difference_in_kind(stored: list[str], here: list[str]) -> str:
    """The first line that differs in more than its numbers, stored and here; "" if there is none."""
    for number in range(max(len(stored), len(here))):
        before = "(nothing)"
        if number < len(stored):
            before = stored[number]
        after = "(nothing)"
        if number < len(here):
            after = here[number]
        if kind_of(before) != kind_of(after):
            return f"line {number + 1}: stored {before[:SHOWN]!r}, here {after[:SHOWN]!r}"
    return ""


def error_of(outputs: list) -> str:
    """What ended a cell, in one line; "" if nothing did."""
    for output in outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}".splitlines()[0]
    return ""


# The run


async def run_cells(path: Path, report: NotebookReport) -> None:
    """Run the code cells of a notebook in one kernel, in order, and note each in `report`."""
    notebook = nbformat.read(path, as_version=4)
    places = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    report.code_cells = len(places)
    task = asyncio.current_task()

    def interrupt() -> None:
        """On Ctrl-C: end this task, which stops the kernel. nbclient alone would call the kernel dead."""
        report.interrupted = True
        task.cancel()

    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook,
        timeout=LONGEST,
        kernel_name="python3",
        allow_errors=True,
        coalesce_streams=True,
        resources=resources,
    )
    # What the kernel itself writes, such as its warnings when it is stopped, is nothing that a cell printed.
    async with client.async_setup_kernel(stderr=subprocess.DEVNULL):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        for place in tqdm(places, desc=path.name, unit="cell", leave=False):
            cell = notebook.cells[place]
            stored = texts_of(cell.outputs)
            start = time.perf_counter()
            await client.async_execute_cell(cell, place)
            seconds = time.perf_counter() - start
            done = CellReport(place, cell.id, seconds, error_of(cell.outputs))
            if "nbval-ignore-output" not in cell.metadata.get("tags", []):
                done.difference = difference_in_kind(stored, texts_of(cell.outputs))
            report.cells.append(done)


def run_notebook(path: Path) -> NotebookReport:
    """Run one notebook; a kernel that dies or hangs ends it."""
    report = NotebookReport(path.name)
    try:
        asyncio.run(run_cells(path, report))
    except (DeadKernelError, CellTimeoutError) as error:
        if report.interrupted:
            raise KeyboardInterrupt from error
        report.died = str(error).strip().splitlines()[0]
    return report


def print_report(report: NotebookReport) -> None:
    """What the run of a notebook showed."""
    seconds = sum(cell.seconds for cell in report.cells)
    outcome = "every cell ran"
    if not report.complete:
        outcome = "NOT every cell ran"
    print(f"\n{report.name}: {outcome}, {len(report.cells)} of {report.code_cells}, in {seconds:.0f} s")
    if report.died:
        print(f"  ended after {len(report.cells)} cells: {report.died}")
    for cell in report.cells:
        where = f"  cell {cell.number} ({cell.cell_id})"
        if cell.seconds > SLOW:
            print(f"{where} took {cell.seconds:.0f} s")
        if cell.error:
            print(f"{where} FAILED: {cell.error}")
        elif cell.difference:
            print(f"{where} differs, {cell.difference}")


def wanted_notebooks(named: list[Path]) -> list[Path]:
    """The notebooks that were named, else those of `NUMBERS`."""
    if named:
        return named
    return [path for number in NUMBERS for path in sorted(ROOT.glob(f"notebooks/en/{number}_*.ipynb"))]


def copy_of(notebook: Path, folder: Path) -> Path:
    """A copy in a folder as in the course: some notebooks write beside themselves, or look at the tests."""
    place = folder / "notebooks" / "en"
    place.mkdir(parents=True, exist_ok=True)
    tests = folder / "tests"
    if not tests.exists():
        tests.symlink_to(ROOT / "tests")
    return Path(shutil.copy(notebook, place))


def refusal(folder: str, tiny: bool) -> str:
    """Why this machine cannot make the cut; "" if it can."""
    if tiny:
        return ""
    disk = shutil.disk_usage(folder).free
    if disk < DISK_NEEDED:
        return (
            f"The cut needs {DISK_NEEDED / GB:.0f} GB of disk, {disk / GB:.1f} GB are free: use --folder, "
            "or --tiny."
        )
    ram = psutil.virtual_memory().available
    if ram < RAM_NEEDED:
        return (
            f"The cut needs {RAM_NEEDED / GB:.0f} GB of RAM, {ram / GB:.1f} GB are free: end other programs, "
            "or use --tiny."
        )
    return ""


def run_all(notebooks: list[Path], folder: Path, tiny: bool) -> int:
    """Write the cut into `folder`, run the notebooks on it one after the other, and print the reports."""
    model = folder / "qwen1.5-moe-cut"
    print(write_cut(model, tiny), flush=True)
    os.environ |= {"COURSE_MODEL": str(model), "COURSE_CACHE": str(folder / "record"), "COURSE_LANG": "en"}
    os.environ["PYTHONPATH"] = str(ROOT)
    if tiny:
        os.environ["OMP_NUM_THREADS"] = "1"  # sharing out work this small costs more than the work
    failed = 0
    for notebook in notebooks:
        report = run_notebook(copy_of(notebook, folder))
        print_report(report)
        failed += int(not report.complete)
    print(f"\n{len(notebooks)} notebooks, {failed} with cells that did not run.")
    return int(failed > 0)


def main() -> int:
    """Read the command line and run the notebooks in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(description="Run notebooks on a cut of the real model.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: 02, 04, 05 and 06")
    parser.add_argument("--tiny", action="store_true", help="a narrow cut: tries this script")
    parser.add_argument("--folder", help="where to work (default: the temporary folder)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="cut-model-", dir=options.folder) as name:
            if reason := refusal(name, options.tiny):
                print(reason, file=sys.stderr)
                return 1
            return run_all(wanted_notebooks(options.notebooks), Path(name), options.tiny)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nInterrupted: what was made is deleted.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
