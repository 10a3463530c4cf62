"""The check as a table, in a notebook and as `python -m helpers.environment` in a terminal."""

import argparse

from helpers import EMBEDDED_MODEL, settings
from helpers.environment.checks import Check, check
from helpers.environment.machine import Machine, read_machine

RULE = "-" * 100


def show_environment(machine: Machine | None = None, model: str = "") -> list[Check]:
    """Print the table for a machine (default: this one) and return its lines.

    The model is "real" or "embedded"; "" takes what COURSE_MODEL says, else "real" where there is a GPU.
    """
    machine = machine or read_machine()
    model = model or choose_model_to_check(machine)
    checks = check(machine, model)
    print(f"{'verdict':<9}{'check':<16}{'found':<37}needed\n{RULE}")
    for number, line in enumerate(checks, start=1):
        print(f"{line.verdict:<9}{line.name:<16}{line.found:<37}{line.needed}")
        following = [later.repair for later in checks[number : number + 1]]
        if line.repair and line.repair not in following:  # the same repair stands once, below the last line
            print(f"{'':<9}-> {line.repair}")
    fails = sum(line.verdict == "fail" for line in checks)
    warnings = sum(line.verdict == "warning" for line in checks)
    able = "can"
    if fails:
        able = "cannot"
    print(f"{RULE}\nThis machine {able} run the {model} model: {fails} fail, {warnings} warning.")
    return checks


def choose_model_to_check(machine: Machine) -> str:
    """ "real" or "embedded", as COURSE_MODEL says; without it "real" where there is a GPU."""
    wanted = settings.wanted_model()
    if not wanted:
        return "real" if machine.gpus else "embedded"
    if wanted in ("embedded", str(EMBEDDED_MODEL)):
        return "embedded"
    return "real"


def main(arguments: list[str] | None = None) -> int:
    """Run the check; the exit code is 1 when something fails."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.environment", description="Check whether this machine can run the course."
    )
    parser.add_argument("--model", choices=["real", "embedded"], default="", help="which model to check for")
    options = parser.parse_args(arguments)
    checks = show_environment(model=options.model)
    return 1 if any(line.verdict == "fail" for line in checks) else 0
