"""Plumbing that the notebooks share. Everything that a notebook teaches stands in the notebook itself.

This file stays light: `python -m helpers.environment` has to run on a machine where nothing is installed yet.
"""

from pathlib import Path

from helpers.language import say, to_say

#: Name of the real model on ModelScope.
REAL_MODEL_ID = "qwen/Qwen1.5-MoE-A2.7B-Chat"

#: Folder of the small model that is shipped inside the course.
EMBEDDED_MODEL = Path(__file__).parent / "embedded_model"

HOW_TO_SWITCH = to_say("To switch, set COURSE_MODEL to a model folder or to embedded.")

GIB = 2**30  # bytes; what memory is counted in
GB = 10**9  # bytes; what disks and downloads are counted in


class CourseError(RuntimeError):
    """An error that a learner can act on: one sentence with what is wrong, the figures, and what to do."""


def choose_model(wanted: str | Path | None = None) -> Path:
    """Return the model folder for this machine and print which, why, and how to switch. Never downloads.

    First `wanted`, else `COURSE_MODEL`: a model folder, `embedded`, `real`, or the id or bare name of a model
    that notebook 03 has recorded; CourseError if it is not here. Then what notebook 03 recorded, if it is
    complete and this machine can hold it; else the embedded model.
    """
    # Imported late: choosing imports this file, which has to stay light.
    from helpers.inference.choosing import choose
    from helpers.terminal import in_a_row

    choice = choose(wanted or "")
    print(in_a_row(choice.sentence, say(HOW_TO_SWITCH)))
    return choice.folder
