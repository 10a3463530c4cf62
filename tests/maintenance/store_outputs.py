"""Run notebooks top to bottom on the embedded model and store their outputs.

    python tests/maintenance/store_outputs.py                          all notebooks
    python tests/maintenance/store_outputs.py notebooks/en/04_*.ipynb  only these

Running it twice changes nothing: whatever differs from run to run (times, widget ids, the Python version) is
not stored. A notebook whose cell fails is not written.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# A stored widget would be shown as a blank box: its code is fetched from the internet, its kernel is gone.
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_CELL_METADATA = {"tags", "jupyter", "slideshow"}


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, everything that would differ between two runs with the same results."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA}
        )
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
                output.metadata = nbformat.from_dict({})


def run(path: Path) -> None:
    """Execute one notebook in its own folder and write it back with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
    )
    client.execute()
    normalise(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run notebooks and store their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook of the course")
    paths = parser.parse_args().notebooks or sorted(ROOT.glob("notebooks/*/*.ipynb"))
    os.environ.pop("COURSE_MODEL", None)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # as in notebooks/conftest.py
    failures = 0
    with tempfile.TemporaryDirectory() as cache:
        os.environ["COURSE_CACHE"] = cache
        for path in tqdm(paths, unit="notebook"):
            try:
                run(path)
            except CellExecutionError as error:
                failures += 1
                print(f"{path.name} was not stored, because a cell failed:\n{error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
