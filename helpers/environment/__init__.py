"""Notebook 01: describe a machine, and check whether it can run the course.

Standard library only: `python -m helpers.environment` has to run where nothing is installed yet.
"""

from helpers.environment.capacity import CUDA_CONTEXT, Capacity, Card, Kind, Memory, decide
from helpers.environment.checks import check
from helpers.environment.command import show_environment
from helpers.environment.holders import Holder, gpu_holders, read_holders
from helpers.environment.machine import Machine, read_machine
from helpers.environment.model_size import REAL_MODEL, ModelSize, size_from_parameters, size_of_folder
from helpers.environment.nvidia_smi import Gpu, GpuReport, read_gpus
from helpers.environment.planner import arithmetic_planner, real_planner
from helpers.environment.probes import cards_of, free_disk, free_ram, read_memory, read_ram
from helpers.environment.verdicts import Check
from helpers.environment.versions import lowest_versions, print_versions, requirements, satisfies
from helpers.environment.wheels import flash_attn_wheel

__all__ = [
    "CUDA_CONTEXT",
    "REAL_MODEL",
    "Capacity",
    "Card",
    "Check",
    "Gpu",
    "GpuReport",
    "Holder",
    "Kind",
    "Machine",
    "Memory",
    "ModelSize",
    "arithmetic_planner",
    "cards_of",
    "check",
    "decide",
    "flash_attn_wheel",
    "free_disk",
    "free_ram",
    "gpu_holders",
    "lowest_versions",
    "print_versions",
    "read_gpus",
    "read_holders",
    "read_machine",
    "read_memory",
    "read_ram",
    "real_planner",
    "requirements",
    "satisfies",
    "show_environment",
    "size_from_parameters",
    "size_of_folder",
]
