"""Copies of the notebooks for a class: without solutions and without outputs. Starter cells stay.

    python tests/maintenance/learner_copies.py [FOLDER] [--editions en zh]

Default folder: class/, beside notebooks/, so that links to README and pictures still lead there.
"""

import argparse
import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Write the copies that the command line asks for."""
    parser = argparse.ArgumentParser(description="Notebooks for a class, without solutions and outputs.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "class", help="default: class/")
    parser.add_argument("--editions", nargs="+", default=["en", "zh"], choices=["en", "zh"])
    arguments = parser.parse_args()
    for edition in arguments.editions:
        written = write_copies(ROOT / "notebooks" / edition, arguments.folder / edition)
        print(f"{arguments.folder / edition}: {written} notebooks")


def write_copies(source: Path, target: Path) -> int:
    """Copy the notebooks and the pages beside them from `source` to `target`; the number of notebooks."""
    target.mkdir(parents=True, exist_ok=True)
    notebooks = sorted(source.glob("*.ipynb"))
    for file in notebooks:
        notebook = json.loads(file.read_text(encoding="utf-8"))
        text = json.dumps(learner_copy(notebook), ensure_ascii=False, indent=1)
        (target / file.name).write_text(text + "\n", encoding="utf-8")
    for page in source.glob("*.md"):
        shutil.copy(page, target)
    return len(notebooks)


def learner_copy(notebook: dict) -> dict:
    """The notebook without its solutions and outputs; everything else as it is."""
    cells = []
    for cell in notebook["cells"]:
        if "solution" in cell["metadata"].get("tags", []):
            continue
        if cell["cell_type"] == "code":
            cell = cell | {"outputs": [], "execution_count": None}
        cells.append(cell)
    return notebook | {"cells": cells}


if __name__ == "__main__":
    main()
