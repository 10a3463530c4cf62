"""How many minutes a chapter takes: its text, code and outputs are read, its exercises done.

    python tests/maintenance/reading_time.py               a table of all notebooks, in both editions
    python tests/maintenance/reading_time.py 04            the sections of a notebook

The minutes in README, at the top of each notebook and in the plans of the teacher's guide are these, rounded
to five; a test compares them. They are an estimate, because nobody has timed learners: what is counted is in
the notebooks, and what a reader needs for it is assumed, here at the top.
"""

import argparse
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EDITIONS = ("en", "zh")

# Brysbaert (2019), doi 10.1016/j.jml.2019.104047: adults read English non-fiction silently at 238 words a
# minute, most of them at 175 to 300. This text is technical.
WORDS_A_MINUTE = 200
# Trauzettel-Klosinski and Dietz (2012), doi 10.1167/iovs.11-8284: aloud, 255 characters a minute. Silent
# reading is faster.
CHARACTERS_A_MINUTE = 300
# The others have no source: they are what seems right for somebody who reads the code for the first time.
CODE_LINE_SECONDS = 5
OUTPUT_LINE_SECONDS = 2
FIGURE_SECONDS = 20
PREDICTION_SECONDS = 20
HANDS_SECONDS = 60  # a widget to press, to drag or to write into
EXERCISE_MINUTES = 6  # a solution has five or six lines on average; a beginner may well need twice as long
# Waiting for a whole run with the embedded model, in minutes, rounded up from the seconds of one core that
# were measured: 7, 52, 8, 20, 14, 18 and 126. Other machines differ.
RUN_MINUTES = {"01": 1, "02": 1, "03": 1, "04": 1, "05": 1, "06": 1, "07": 3}

# In a class the slower readers count: Brysbaert's 238 words a minute, by the 175 of the slower ones.
CLASS_FACTOR = 238 / 175

CHINESE_CHARACTER = re.compile(r"[\u4e00-\u9fff]")
WORD = re.compile(r"[A-Za-z0-9][\w.,'’-]*", flags=re.ASCII)
NOT_READ = re.compile(r"\]\([^)]*\)|<[^>]*>")  # addresses of links, and HTML
PREDICTION = re.compile(r"\*(Predict|先预测)")
HANDS = re.compile(r"^(show\(|Calculator\(|Explorer\(|box$)", flags=re.M)
HEADING = re.compile(r"^## (\d+)\. ", flags=re.M)


@dataclass
class Minutes:
    """What a chapter, or a section of it, takes; all in minutes."""

    text: float = 0.0
    code: float = 0.0
    outputs: float = 0.0
    predictions: float = 0.0
    hands: float = 0.0
    exercises: float = 0.0
    run: float = 0.0

    def add(self, other: "Minutes") -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def total(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))


def notebooks(edition: str) -> list[Path]:
    """The notebooks of an edition in their order."""
    return sorted((ROOT / "notebooks" / edition).glob("[0-9]*.ipynb"))


def text_minutes(text: str) -> float:
    """For prose in either language: Chinese characters one by one, everything else in words."""
    read = NOT_READ.sub(" ", text)
    characters = len(CHINESE_CHARACTER.findall(read))
    words = len(WORD.findall(read))
    return characters / CHARACTERS_A_MINUTE + words / WORDS_A_MINUTE


def lines(text: str) -> int:
    """How many lines are not empty."""
    return sum(bool(line.strip()) for line in text.splitlines())


def cell_minutes(cell: dict) -> Minutes:
    """For one cell. A solution takes nothing: it is folded away."""
    tags = cell["metadata"].get("tags", [])
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        predictions = len(PREDICTION.findall(source)) * PREDICTION_SECONDS / 60
        return Minutes(text=text_minutes(source), predictions=predictions)
    if "solution" in tags:
        return Minutes()
    if "exercise" in tags:
        return Minutes(exercises=EXERCISE_MINUTES)
    found = Minutes(code=lines(source) * CODE_LINE_SECONDS / 60)
    found.hands = len(HANDS.findall(source)) * HANDS_SECONDS / 60
    for output in cell["outputs"]:
        found.outputs += lines("".join(output.get("text", []))) * OUTPUT_LINE_SECONDS / 60
        if "image/png" in output.get("data", {}):
            found.outputs += FIGURE_SECONDS / 60
    return found


def sections(path: Path) -> dict[int, Minutes]:
    """Each numbered section of a notebook, without its run time; 0 is what stands above the first."""
    found = {0: Minutes()}
    number = 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            heading = HEADING.match("".join(cell["source"]))
            if heading:
                number = int(heading[1])
                found[number] = Minutes()
        found[number].add(cell_minutes(cell))
    return found


def chapter(path: Path) -> Minutes:
    """A whole notebook, with its run time."""
    whole = Minutes(run=RUN_MINUTES[path.name[:2]])
    for section in sections(path).values():
        whole.add(section)
    return whole


def row(name: str, minutes: Minutes) -> str:
    """A line of the table."""
    parts = [f"{getattr(minutes, field.name):>12.1f}" for field in fields(minutes)]
    return f"{name:24}" + "".join(parts) + f"{minutes.total:>12.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How many minutes a chapter takes.")
    parser.add_argument("number", nargs="?", help="of a notebook, such as 04: print its sections")
    arguments = parser.parse_args()
    names = [field.name for field in fields(Minutes)]
    print(f"{'minutes':24}" + "".join(f"{name:>12}" for name in [*names, "total"]))
    for edition in EDITIONS:
        for path in notebooks(edition):
            if arguments.number is None:
                print(row(f"{edition} {path.stem}", chapter(path)))
            elif path.name.startswith(arguments.number):
                for number, minutes in sections(path).items():
                    print(row(f"{edition} {path.stem[:2]}, section {number}", minutes))


if __name__ == "__main__":
    main()
