"""The command of notebook 03: `python -m helpers.download plan|download|verify MODEL`."""

import argparse
import sys
from pathlib import Path

from helpers import REAL_MODEL_ID, CourseError
from helpers.download.pipeline import download, plan_download, verify
from helpers.download.place import locate


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.download", description="Download a model and check it."
    )
    parser.add_argument("action", choices=("plan", "download", "verify"))
    parser.add_argument(
        "model", nargs="?", default=REAL_MODEL_ID, help="owner/name, for verify also a folder"
    )
    parser.add_argument("--revision", default="master")
    parser.add_argument("--cache-dir")
    parser.add_argument("--full", action="store_true", help="verify: hash every file again")
    parser.add_argument("--repair", action="store_true", help="verify: download wrong files again")
    return parser.parse_args(arguments)


def act(options: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if options.action == "plan":
        print(plan_download(options.model, options.revision, options.cache_dir))
    elif options.action == "download":
        print(download(options.model, options.revision, options.cache_dir))
    else:
        folder = Path(options.model)
        if not folder.is_dir():
            folder = locate(options.model, options.revision, options.cache_dir).folder
        verify(folder, options.full, options.repair)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 after an error of one sentence, 130 after Ctrl-C."""
    try:
        act(parse(arguments))
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
