"""Run the notebooks with the kernels of other processors, and show which cells then differ.

    python tests/maintenance/sweep.py             all settings, all English notebooks: half an hour
    python tests/maintenance/sweep.py --short     as this processor computes, and as the oldest
    python tests/maintenance/sweep.py --oldest    only the oldest instruction set, as .ci/run does
    python tests/maintenance/sweep.py --threads 2 only the settings with two threads, of all or of --short
    python tests/maintenance/sweep.py notebooks/en/04_inference.ipynb

The Chinese notebooks have the same code and print the same numbers (tests/notebooks/test_editions.py), so one
edition is enough. Two runs go on side by side where there are two cores.
Each run is strict nbval, as in the tests. What the processor lacks is skipped, with the reason. The exit code
is 1 if a cell differs. A cell that differs is mended by what it prints: a rank instead of a digit, a rounder
number, a statement with a margin (CONTRIBUTING in README.md).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from cpu_settings import (
    THREADS,
    CpuSetting,
    all_settings,
    describe_processor,
    processor_flags,
    short_settings,
)
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
SIDE_BY_SIDE = min(2, os.cpu_count() or 1)  # each run takes a core and up to 2 GB
SAFETY_NET = 3600  # seconds for one notebook, far more than it takes; only a hung run needs that long


def differing_cells(notebook: Path, setting: CpuSetting) -> dict[str, str]:
    """Run one notebook under strict nbval with this setting.

    Returns the cells that failed, such as "7", each with what nbval says of it. A run that fails in another
    way, such as an import error, gives its last line in place of the cell, and all that it has printed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in setting.variables}
    environment |= setting.variables
    environment["COURSE_TEST_THREADS"] = str(setting.threads)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # What torch.compile has made for one set of instructions does not fit another one.
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "compiled")
        settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", *settings, f"--junitxml={report}", str(notebook)]
        run = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SAFETY_NET
        )
        if not report.is_file():
            return {run.stderr.strip().splitlines()[-1]: run.stderr}
        return failed_cells(report)


def failed_cells(report: Path) -> dict[str, str]:
    """The cells that a JUnit report calls failed: number, or name if it has none -> what nbval says of it."""
    failed = {}
    for case in ElementTree.parse(report).iter("testcase"):
        for failure in (*case.iter("failure"), *case.iter("error")):
            name = re.sub(r"^Cell ", "", case.get("name"))
            failed[name] = re.sub(r"#x1B\[[\d;]*m", "", failure.text or "")  # without its colours
    return failed


def sweep(notebooks: list[Path], settings: list[CpuSetting]) -> dict[tuple[Path, str], dict[str, str]]:
    """Run every notebook with every setting that can be tried: (notebook, setting) -> `differing_cells`."""
    tried = [setting for setting in settings if not setting.missing]
    results = {}
    pool = ThreadPoolExecutor(max_workers=SIDE_BY_SIDE)
    try:
        runs = {}
        for setting in tried:
            for notebook in notebooks:
                runs[pool.submit(differing_cells, notebook, setting)] = (notebook, setting.name)
        for run in tqdm(as_completed(runs), total=len(runs), unit="run", disable=None):
            results[runs[run]] = run.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing new is begun
    return results


def print_table(notebooks: list[Path], settings: list[CpuSetting], results: dict) -> None:
    """One row a setting, one column a notebook: the cells that differ, or a dot."""
    names = [f"{notebook.parent.name}/{notebook.stem}" for notebook in notebooks]
    widths = [max(len(name), 10) for name in names]
    print(f"{'setting':<36}" + "  ".join(f"{n:<{w}}" for n, w in zip(names, widths, strict=True)))
    for setting in settings:
        if setting.missing:
            print(f"{setting.name:<36}skipped: {setting.missing}")
            continue
        row = [" ".join(results[notebook, setting.name]) or "." for notebook in notebooks]
        print(f"{setting.name:<36}" + "  ".join(f"{t:<{w}}" for t, w in zip(row, widths, strict=True)))


def print_differences(results: dict) -> None:
    """What nbval says of each cell that differs."""
    for (notebook, setting), cells in results.items():
        for cell, message in cells.items():
            print(f"\n{notebook.parent.name}/{notebook.stem}, {setting}, cell {cell}:\n{message.strip()}")


def choose_settings(options: argparse.Namespace) -> list[CpuSetting]:
    flags = processor_flags()
    if options.oldest:
        return short_settings(flags, options.threads or 1)[1:]
    if options.short:
        return short_settings(flags, options.threads or 1)
    return [setting for setting in all_settings(flags) if options.threads in (None, setting.threads)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks with the kernels of other processors.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every English notebook")
    parser.add_argument("--short", action="store_true", help="only this processor's own way and the oldest")
    parser.add_argument("--oldest", action="store_true", help="only the oldest instruction set")
    parser.add_argument("--threads", type=int, choices=THREADS, help="only settings with so many threads")
    options = parser.parse_args()
    notebooks = options.notebooks or sorted(ROOT.glob("notebooks/en/*.ipynb"))
    notebooks = [notebook.resolve() for notebook in notebooks]
    settings = choose_settings(options)
    print(describe_processor())
    results = sweep(notebooks, settings)
    print_table(notebooks, settings, results)
    differing = [run for run, cells in results.items() if cells]
    print(f"{len(results)} runs, {len(differing)} with cells that differ")
    print_differences(results)
    if differing:
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
