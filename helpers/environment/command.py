"""The check as a table, in a notebook and as `python -m helpers.environment` in a terminal."""

import argparse
import sys
import textwrap
from typing import NamedTuple

from helpers import CourseError, settings
from helpers.environment.checks import check
from helpers.environment.hardware_checks import started_without_gpus
from helpers.environment.machine import Machine, read_machine
from helpers.environment.model_folder import folder_state
from helpers.environment.model_size import ModelSize, size_of_folder
from helpers.environment.planner import Planner, installed_planner
from helpers.environment.verdicts import Check
from helpers.model_names import resolve

WIDTH = 100
RULE = "-" * WIDTH


class Wanted(NamedTuple):
    """The model to check for: "real", "embedded" or the size of a folder; its name; why this one."""

    model: str | ModelSize
    name: str
    why: str


def show_environment(machine: Machine | None = None, model: str = "") -> list[Check]:
    """Print the table for a machine (default: this one) and return its lines.

    `model`: "real", "embedded", or a model folder. "" takes what COURSE_MODEL says; without it the real one
    where there is a GPU, or should be (a problem of the driver, an AutoDL instance that was started without).
    CourseError if a model folder is not there or not whole.
    """
    planner: Planner | None = None
    if machine is None:
        machine = read_machine()
        planner = _planner_of_this_machine(machine)
    wanted = choose_model_to_check(machine, model)
    if wanted.model != "real":
        planner = None
    checks = check(machine, wanted.model, planner)
    print_table(checks)
    print(f"{summary(machine, wanted, checks)}\nChecked for the {wanted.name} model, because {wanted.why}.")
    return checks


def print_table(checks: list[Check]) -> None:
    """One line a check, its repair below it; the same repair of several lines stands once, below the last."""
    print(f"{'verdict':<9}{'check':<16}{'found':<37}needed\n{RULE}")
    for number, line in enumerate(checks, start=1):
        print(f"{line.verdict:<9}{line.name:<16}{line.found:<37}{line.needed}")
        following = [later.repair for later in checks[number : number + 1]]
        if line.repair and line.repair not in following:
            print(_indented(line.repair))
    print(RULE)


def _indented(repair: str) -> str:
    """A repair behind an arrow. A command stays on one line, so that it can be copied."""
    if "pip install" in repair:
        return f"{'':<9}-> {repair}"
    indents = {"initial_indent": f"{'':<9}-> ", "subsequent_indent": " " * 12}
    return textwrap.fill(repair, WIDTH, break_long_words=False, break_on_hyphens=False, **indents)


def summary(machine: Machine, wanted: Wanted, checks: list[Check]) -> str:
    """The last line: whether the machine can run the model."""
    fails = sum(line.verdict == "fail" for line in checks)
    warnings = sum(line.verdict == "warning" for line in checks)
    able = f"can run the {wanted.name} model"
    if fails:
        able = f"cannot run the {wanted.name} model"
    elif wanted.model != "embedded" and started_without_gpus(machine):
        able = f"can prepare for the {wanted.name} model, and run it with GPUs"
    elif any(line.name == "GPU" and "slowly" in line.repair for line in checks):
        able += ", slowly"
    return f"This machine {able}: {fails} fail, {warnings} warning."


def choose_model_to_check(machine: Machine, model: str = "") -> Wanted:
    """The model that the learner asks for, else the one that this machine is presumably for.

    CourseError for a name that is none, for a folder that is not whole, and for other models on the hub.
    """
    why = "you asked for it"
    if not model:
        model = settings.wanted_model()
        why = "COURSE_MODEL asks for it"
    if model:
        return _named(model, why)
    switch = "--model real or --model embedded switches"
    if machine.gpus:
        return Wanted("real", "real", f"this machine has a GPU ({switch})")
    if machine.gpu_remedy:
        return Wanted("real", "real", f"this machine may have a GPU ({switch})")
    if machine.autodl:
        return Wanted("real", "real", f"an AutoDL instance is for that ({switch})")
    return Wanted("embedded", "embedded", f"this machine has no GPU ({switch})")


def _named(model: str, why: str) -> Wanted:
    name = resolve(model)
    if name.is_real:
        return Wanted("real", "real", why)
    if name.is_embedded:
        return Wanted("embedded", "embedded", why)
    if name.folder is None:
        raise CourseError(
            f"{name.model_id} is not on this disk: the check knows real, embedded, and folders."
        )
    state = folder_state(name.folder).state
    if state != "complete":
        problem = {"incomplete": "lacks files or parts of them"}.get(state, "cannot be read")
        raise CourseError(f"The model folder {name.folder.name} {problem}: download it again, or use real.")
    return Wanted(size_of_folder(name.folder), name.folder.name, why)


def _planner_of_this_machine(machine: Machine) -> Planner | None:
    """transformers' own planner, where there are GPUs to plan for and it is installed."""
    if not machine.gpus:
        return None
    return installed_planner()


def main(arguments: list[str] | None = None) -> int:
    """Run the check; the exit code is 1 when something fails."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.environment", description="Check whether this machine can run the course."
    )
    parser.add_argument("--model", default="", help="real, embedded, or a model folder")
    options = parser.parse_args(arguments)
    try:
        checks = show_environment(model=options.model)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if any(line.verdict == "fail" for line in checks) else 0
