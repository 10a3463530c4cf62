"""Compare a machine with what a model needs: one line a fact, each with a verdict and a repair.

Uses nothing but its arguments, so a machine that nobody has rented yet can be checked too. No line shows a
path or a host name of this machine. GiB = 2^30 bytes, GB = 10^9 bytes.
"""

from helpers.environment import hardware_checks as hardware
from helpers.environment import software_checks as software
from helpers.environment.machine import Machine
from helpers.environment.model_size import ModelSize
from helpers.environment.planner import Planner
from helpers.environment.verdicts import Check, Needs


def check(machine: Machine, model: str | ModelSize = "real", planner: Planner | None = None) -> list[Check]:
    """Compare a machine with what a model needs; uses nothing but its arguments.

    `model`: "real", "embedded", or the size of another model (`size_of_folder`). `planner`: see `capacity`.
    """
    needs = Needs.of(model)
    lines = [software.python_line(machine), software.torch_line(machine, needs)]
    lines += [*software.package_lines(machine)]
    lines += [*hardware.nvidia_smi_lines(machine), hardware.gpu_line(machine, needs, planner)]
    if machine.gpus:
        lines += [hardware.bf16_line(machine, needs), hardware.driver_line(machine, needs)]
    lines += [hardware.ram_line(machine, needs), hardware.disk_line(machine, needs)]
    lines += [software.flash_attn_line(machine), software.jupyterlab_line(machine)]
    lines += [software.index_line(machine), software.proxy_line(machine)]
    return lines
