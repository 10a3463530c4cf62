"""The check as a table, in a notebook and as `python -m helpers.environment` in a terminal."""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

from helpers import CourseError, settings
from helpers.environment.checks import check
from helpers.environment.hardware_checks import started_without_gpus
from helpers.environment.machine import Machine, read_machine
from helpers.environment.model_folder import folder_state, missing_tokenizer
from helpers.environment.model_size import ModelSize, size_of_folder
from helpers.environment.planner import Planner, installed_planner
from helpers.environment.verdicts import Check
from helpers.language import say, to_say
from helpers.model_names import resolve
from helpers.terminal import CommandParser, padded, wrapped

WIDTH = 100
RULE = "-" * WIDTH
COLUMNS = {to_say("verdict"): 9, to_say("check"): 16, to_say("found"): 37}  # heading -> places
NEEDED = to_say("needed")

ASKED = to_say("Checked for the {name} model, because you asked for it.")
BY_VARIABLE = to_say("Checked for the {name} model, because COURSE_MODEL asks for it.")
HAS_GPU = to_say(
    "Checked for the {name} model, because this machine has a GPU "
    "(--model real or --model embedded switches)."
)
MAY_HAVE_GPU = to_say(
    "Checked for the {name} model, because this machine may have a GPU "
    "(--model real or --model embedded switches)."
)
ON_AUTODL = to_say(
    "Checked for the {name} model, because an AutoDL instance is for that "
    "(--model real or --model embedded switches)."
)
WITHOUT_GPU = to_say(
    "Checked for the {name} model, because this machine has no GPU "
    "(--model real or --model embedded switches)."
)


class Wanted(NamedTuple):
    """The model to check for: "real", "embedded" or the size of a folder; its name; why this one.

    `why`: the sentence that says so, before its name is in it.
    """

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
    print(summary(machine, wanted, checks))
    print(say(wanted.why, name=wanted.name))
    return checks


def print_table(checks: list[Check]) -> None:
    """One line a check, its repair below it; the same repair of several lines stands once, below the last."""
    headings = [padded(say(heading), width) for heading, width in COLUMNS.items()]
    print("".join(headings) + say(NEEDED))
    print(RULE)
    for number, line in enumerate(checks, start=1):
        cells = zip((say(line.verdict), say(line.name), line.found), COLUMNS.values(), strict=True)
        print("".join(padded(cell, width) for cell, width in cells) + line.needed)
        following = [later.repair for later in checks[number : number + 1]]
        if line.repair and line.repair not in following:
            print(_indented(line.repair))
    print(RULE)


def _indented(repair: str) -> str:
    """A repair behind an arrow. A command stays on one line, so that it can be copied."""
    if "pip install" in repair:
        return f"{'':<9}-> {repair}"
    return wrapped(repair, WIDTH, first=f"{'':<9}-> ", following=" " * 12)


def summary(machine: Machine, wanted: Wanted, checks: list[Check]) -> str:
    """The last line: whether the machine can run the model."""
    fails = sum(line.verdict == "fail" for line in checks)
    warnings = sum(line.verdict == "warning" for line in checks)
    sentence = to_say("This machine can run the {name} model: {fails} fail, {warnings} warning.")
    if fails:
        sentence = to_say("This machine cannot run the {name} model: {fails} fail, {warnings} warning.")
    elif wanted.model != "embedded" and started_without_gpus(machine):
        sentence = to_say(
            "This machine can prepare for the {name} model, and run it with GPUs: "
            "{fails} fail, {warnings} warning."
        )
    elif any(line.slow for line in checks):
        sentence = to_say("This machine can run the {name} model, slowly: {fails} fail, {warnings} warning.")
    return say(sentence, name=wanted.name, fails=fails, warnings=warnings)


def choose_model_to_check(machine: Machine, model: str = "") -> Wanted:
    """The model that the learner asks for, else the one that this machine is presumably for.

    CourseError for a name that is none, for a folder that is not whole, and for other models on the hub.
    """
    why = ASKED
    if not model:
        model = settings.wanted_model()
        why = BY_VARIABLE
    if model:
        return _named(model, why)
    if machine.gpus:
        return Wanted("real", "real", HAS_GPU)
    if machine.gpu_remedy:
        return Wanted("real", "real", MAY_HAVE_GPU)
    if machine.autodl:
        return Wanted("real", "real", ON_AUTODL)
    return Wanted("embedded", "embedded", WITHOUT_GPU)


def _named(model: str, why: str) -> Wanted:
    name = resolve(model)
    if name.is_real:
        return Wanted("real", "real", why)
    if name.is_embedded:
        return Wanted("embedded", "embedded", why)
    if name.folder is None:
        raise CourseError(
            say(
                "{model_id} is not on this disk: the check knows real, embedded, and folders.",
                model_id=name.model_id,
            )
        )
    folder = Path(os.path.abspath(name.folder))  # "." has no name of its own
    check_folder(folder)
    return Wanted(size_of_folder(folder), folder.name, why)


def check_folder(folder: Path) -> None:
    """CourseError for a model folder that cannot be read or lacks something."""
    name = folder.name or str(folder)
    state = folder_state(folder).state
    if state not in ("complete", "incomplete"):
        raise CourseError(
            say(
                "The model folder {name} cannot be read: change its permissions, or download it again.",
                name=name,
            )
        )
    tokenizer = missing_tokenizer(folder)
    if tokenizer and (folder / "config.json").is_file():
        raise CourseError(
            say(
                "The model folder {name} has no {file}, so there is no tokenizer: "
                "download it again, or use real.",
                name=name,
                file=tokenizer[0],
            )
        )
    if state == "incomplete":
        raise CourseError(
            say(
                "The model folder {name} lacks files or parts of them: download it again, or use real.",
                name=name,
            )
        )


def _planner_of_this_machine(machine: Machine) -> Planner | None:
    """transformers' own planner, where there are GPUs to plan for and it is installed."""
    if not machine.gpus:
        return None
    return installed_planner()


def main(arguments: list[str] | None = None) -> int:
    """Run the check; the exit code is 1 when something fails."""
    try:
        options = parse(arguments)
        checks = show_environment(model=options.model)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    if any(line.verdict == "fail" for line in checks):
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments of the command; CourseError if they cannot be understood."""
    parser = CommandParser(
        prog="python -m helpers.environment",
        description=say("Check whether this machine can run the course."),
    )
    parser.add_argument("--model", default="", help=say("real, embedded, or a model folder"))
    return parser.parse_args(arguments)
