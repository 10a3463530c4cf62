"""Plumbing that the notebooks share. Everything that a notebook teaches stands in the notebook itself.

This file stays light: `python -m helpers.environment` has to run on a machine where nothing is installed yet.
"""

from pathlib import Path

#: Name of the real model on ModelScope.
REAL_MODEL_ID = "qwen/Qwen1.5-MoE-A2.7B-Chat"

#: Folder of the small model that is shipped inside the course.
EMBEDDED_MODEL = Path(__file__).parent / "embedded_model"

GIB = 2**30  # bytes; what memory is counted in
GB = 10**9  # bytes; what disks and downloads are counted in


class CourseError(RuntimeError):
    """An error that a learner can act on: one sentence with what is wrong, the figures, and what to do."""


def choose_model() -> Path:
    """Choose the model folder for this machine; see `helpers.inference.choose_model`."""
    from helpers.inference import choose_model as choose  # imported late: torch takes seconds to import

    return choose()
