"""Notebook 01: describe a machine, and check whether it can run the course.

Standard library only: `python -m helpers.environment` has to run where nothing is installed yet.
"""

from helpers.environment.checks import check, flash_attn_wheel, print_versions, satisfies, show_environment
from helpers.environment.machine import Gpu, Machine, read_gpus, read_machine, read_ram, requirements

__all__ = [
    "Gpu",
    "Machine",
    "check",
    "flash_attn_wheel",
    "print_versions",
    "read_gpus",
    "read_machine",
    "read_ram",
    "requirements",
    "satisfies",
    "show_environment",
]
