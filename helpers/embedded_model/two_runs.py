"""Add the figures of two training runs to the model card.

`python -m helpers.embedded_model.two_runs A B`: A and B are folders that `train --seed N --out FOLDER` made,
with two seeds.
"""

import json
from pathlib import Path

from helpers import EMBEDDED_MODEL, CourseError
from helpers.arguments import ArgumentParser
from helpers.embedded_model import card, measure
from helpers.language import say


def figures_of(results: dict) -> dict:
    """What the card says of a run, from its `training_results.json`."""
    return {
        "seed": results["training"]["seed"],
        "steps": results["training"]["steps"],
        "held_out": results["held_out"],
        "chats": {before: row["right"] for before, row in results["chats"].items()},
        "information": results["information"],
        "least_used": results["least_used"],
        "silenced": results["silenced"]["loss_added"],
    }


def add_runs(folder: Path, first: Path, second: Path) -> None:
    """Add the figures of two runs to the results of the model in `folder`.

    Raises CourseError when the two do not differ in their seed, or differ in their length.
    """
    runs = []
    for run in (first, second):
        results = json.loads((run / "training_results.json").read_text(encoding="utf-8"))
        runs.append(figures_of(results))
    seeds = [run["seed"] for run in runs]
    steps = [run["steps"] for run in runs]
    if seeds[0] == seeds[1] or steps[0] != steps[1]:
        raise CourseError(
            say(
                "The two runs must have two seeds and one length, but {first} has seed {seed_1} and "
                "{steps_1} steps, and {second} seed {seed_2} and {steps_2} steps.",
                first=first,
                seed_1=seeds[0],
                steps_1=steps[0],
                second=second,
                seed_2=seeds[1],
                steps_2=steps[1],
            )
        )
    measure.add_results(folder, {"runs": runs})


if __name__ == "__main__":
    parser = ArgumentParser(
        "python -m helpers.embedded_model.two_runs",
        say("Add the figures of two training runs to the model card."),
    )
    parser.add_argument("first", type=Path, help=say("folder of `train --seed 1`"))
    parser.add_argument("second", type=Path, help=say("folder of the same with another seed"))
    arguments = parser.parse_args()
    add_runs(EMBEDDED_MODEL, arguments.first, arguments.second)
    card.write(EMBEDDED_MODEL)
