"""The command of notebook 03: `python -m helpers.download plan|download|verify MODEL`."""

import argparse
import sys
from pathlib import Path

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID, CourseError
from helpers.arguments import ArgumentParser
from helpers.download.compare import wrong_tensors
from helpers.download.pipeline import download, plan_download, verify
from helpers.download.place import is_filled, locate
from helpers.language import say
from helpers.model_names import ModelName, how_to_name, resolve
from helpers.settings import read_record


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        prog="python -m helpers.download", description=say("Download a model and check it.")
    )
    parser.add_argument("action", choices=("plan", "download", "verify"))
    which = say("{how} (default: real, which is {model})", how=how_to_name(), model=REAL_MODEL_ID)
    parser.add_argument("model", nargs="?", default="real", help=which)
    revision = say("of the model on the hub (default: master)")
    parser.add_argument("--revision", default="master", help=revision)
    parser.add_argument("--cache-dir", help=say("the folder of all models (default: what notebook 03 says)"))
    speed = say("plan: MB/s to reckon with (default: 10)")
    parser.add_argument("--speed", type=float, default=10, help=speed)
    parser.add_argument("--full", action="store_true", help=say("verify: hash every file again"))
    parser.add_argument("--repair", action="store_true", help=say("verify: download wrong files again"))
    named = say("verify: owner/name of a folder that was not downloaded by this course")
    parser.add_argument("--id", help=named)
    return parser.parse_args(arguments)


def act(options: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    name = resolve(options.model)
    if name.is_embedded and "/" not in name.text:
        show_embedded()
    elif options.action == "plan":
        print(plan_download(needed_id(name), options.revision, options.cache_dir, options.speed))
    elif options.action == "download":
        print(download(needed_id(name), options.revision, options.cache_dir))
    else:
        model_id = None
        if options.id:
            model_id = needed_id(resolve(options.id))
        verify(folder_of(name, options), options.full, options.repair, model_id)


def show_embedded() -> None:
    """The embedded model needs no download: say so, and check that its files fit together."""
    paths = [file.name for file in EMBEDDED_MODEL.iterdir() if file.is_file()]
    wrong = wrong_tensors(EMBEDDED_MODEL, paths)
    if wrong:
        path = min(wrong)
        what = say(wrong[path], path=path)
        raise CourseError(say("The embedded model is damaged, {what}: get the course anew.", what=what))
    print(say("The embedded model is part of the course and complete: nothing is to be downloaded."))
    print(EMBEDDED_MODEL)


def needed_id(name: ModelName) -> str:
    """The id of a model that shall come from the hub; CourseError for a folder that names none."""
    if name.model_id is None:
        raise CourseError(
            say(
                "{folder} is a folder: verify checks one; for plan and download name a model as owner/name, "
                "or real.",
                folder=name.text,
            )
        )
    return name.model_id


def folder_of(name: ModelName, options: argparse.Namespace) -> Path:
    """The folder to verify: the one named, that of the id in the cache, or the recorded one."""
    if name.folder is not None and not name.is_embedded:
        return name.folder
    if name.is_embedded and "/" in name.text and Path(name.text).is_dir():
        return Path(name.text)
    place = locate(needed_id(name), options.revision, options.cache_dir)
    if is_filled(place.folder):
        return place.folder
    if name.is_real and not options.cache_dir:
        recorded = recorded_folder()
        if recorded is not None:
            return recorded
    raise CourseError(
        say(
            "{model} is not in {cache}: run download, or name the folder that it is in, or its --cache-dir.",
            model=place.model_id,
            cache=place.cache,
        )
    )


def recorded_folder() -> Path | None:
    """Where the record says that the real model is, if it is still there."""
    try:
        record = read_record()
    except (OSError, ValueError):
        return None
    if record is None or not is_filled(Path(record["folder"])):
        return None
    return Path(record["folder"])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 after an error of one sentence, 130 after Ctrl-C."""
    try:
        act(parse(arguments))
    except CourseError as error:
        # An error of the download names flags here, and arguments of Python in a notebook.
        print(getattr(error, "in_terminal", error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
