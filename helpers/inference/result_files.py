"""The result files of the full-size benchmark, as they lie in `helpers/speed/results`. Standard library only.

A GPU's file is written by `tests/gpu/benchmark_full_size.py`. Where there is none, nothing was measured on
that GPU, and nothing is said about it.
"""

import json
from pathlib import Path

from helpers import CourseError
from helpers.language import say

#: One file for each GPU.
RESULTS = Path(__file__).parents[1] / "speed" / "results"
NEEDED = ("gpu", "driver", "versions", "date", "sizes", "models", "steps")
FULL_SIZE = "full size"  # as opposed to tiny models, with which the benchmark is tried


def read_result_files(folder: Path = RESULTS) -> list[dict]:
    """What was measured at full size, one record a GPU, in the order of the files' names.

    A record has what it was measured with (`gpu`, `driver`, `versions`, `date`), `models` (the shapes) and
    `steps` (name -> `rows`). CourseError for a file that is no such record.
    """
    records = []
    for file in sorted(folder.glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict) or any(name not in record for name in NEEDED):
            raise CourseError(
                say(
                    "{file} is no result of the full-size benchmark: delete it, or measure again with python "
                    "tests/gpu/benchmark_full_size.py.",
                    file=file.name,
                )
            )
        if record["sizes"] == FULL_SIZE:
            records.append(record)
    return records


def rows_of(record: dict) -> list[dict]:
    """All rows that were measured, of all steps.

    Left out are those that were skipped, and those whose way was noted to write other tokens.
    """
    rows = []
    for step in record["steps"].values():
        for row in step["rows"]:
            if "skipped" not in row and row.get("same_tokens", True):
                rows.append(row)
    return rows


def find_row(record: dict, **wanted) -> dict | None:
    """The first measured row with these values, as in `lever="generate", phase="decode", batch=1`."""
    for row in rows_of(record):
        if all(row.get(name) == value for name, value in wanted.items()):
            return row
    return None


def decoding_gain(record: dict, lever: str, setting: str, batch: int = 1) -> float | None:
    """How many times as many tokens per second a lever gives as the plain script; None if not measured."""
    plain = find_row(record, lever="generate", setting="moe", phase="decode", batch=batch)
    pulled = find_row(record, lever=lever, setting=setting, phase="decode", batch=batch)
    if plain is None or pulled is None:
        return None
    return pulled["tokens_per_second"] / plain["tokens_per_second"]
