"""Run notebooks top to bottom on the embedded model and store their outputs.

    python tests/maintenance/store_outputs.py                          all notebooks
    python tests/maintenance/store_outputs.py notebooks/en/04_*.ipynb  only these

Running it twice changes nothing: whatever differs from run to run (times, widget ids, the Python version) is
not stored. A notebook whose cell fails is not written, and neither is one whose outputs would be others on an
older processor: each new notebook is run once more with the oldest instruction set, and compared (sweep.py).
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from cpu_settings import CpuSetting, describe_processor, processor_flags, short_settings
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sweep import differing_cells
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# A stored widget would be shown as a blank box: its code is fetched from the internet, its kernel is gone.
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_CELL_METADATA = {"tags", "jupyter", "slideshow"}
NOT_STORED = "not-stored"  # tag of a cell that prints times: they would differ in each run


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, everything that would differ between two runs with the same results."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA}
        )
        if NOT_STORED in cell.metadata.get("tags", []):
            cell.outputs = []
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
                output.metadata = nbformat.from_dict({})


class OutputsDifferError(Exception):
    """The outputs of a notebook are not the same with another setting of the processor."""


def run(path: Path) -> nbformat.NotebookNode:
    """Execute one notebook in its own folder; returns it with its outputs, normalised."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=3600,  # a safety net, far more than a cell takes
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
    )
    client.execute()
    normalise(notebook)
    nbformat.validate(notebook)
    return notebook


def store(path: Path, settings: list[CpuSetting]) -> None:
    """Run a notebook and write it, if its outputs are the same with every one of the settings.

    Whatever goes wrong, an interrupt too, leaves the file as it was.
    """
    before = path.read_bytes()
    stored = False
    try:
        nbformat.write(run(path), path)
        for setting in settings:
            cells = differing_cells(path, setting)
            if cells:
                raise OutputsDifferError(f"with the setting {setting.name!r} cell {', '.join(cells)} differs")
        stored = True
    finally:
        if not stored:
            path.write_bytes(before)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run notebooks and store their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook of the course")
    paths = parser.parse_args().notebooks or sorted(ROOT.glob("notebooks/*/*.ipynb"))
    os.environ.pop("COURSE_MODEL", None)
    # As in notebooks/conftest.py. No language: each notebook speaks that of its folder.
    os.environ |= {"COURSE_LANG": "", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    settings = [setting for setting in short_settings(processor_flags()) if not setting.missing]
    print(
        f"Made with {describe_processor()}, one thread; compared with: {', '.join(s.name for s in settings)}."
    )
    failures = 0
    with tempfile.TemporaryDirectory() as cache:
        os.environ["COURSE_CACHE"] = cache
        for path in tqdm(paths, unit="notebook"):
            try:
                store(path, settings)
            except CellExecutionError as error:
                failures += 1
                print(f"{path.name} was not stored, because a cell failed:\n{error}", file=sys.stderr)
            except OutputsDifferError as error:
                failures += 1
                print(f"{path.name} was not stored, because its outputs differ: {error}.", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
