"""Choose the model that the notebooks run on. The door is `helpers.choose_model`."""

from pathlib import Path
from typing import NamedTuple

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID, CourseError
from helpers.inference.model_folder import weights_bytes
from helpers.inference.placement import find_placement
from helpers.model_names import ModelName, resolve, same_model
from helpers.settings import read_record, wanted_model

UNREADABLE = "the record of the downloaded one cannot be read (run notebook 03 again)"
GONE = (
    "its folder is gone (a saved image of AutoDL keeps the system disk, not the data disk): "
    "run notebook 03 again"
)


class Choice(NamedTuple):
    """A model folder, what to call it, and why it was chosen."""

    folder: Path
    name: str
    reason: str


def embedded_because(reason: str) -> Choice:
    """The model that is always there."""
    return Choice(EMBEDDED_MODEL, "the embedded toy model", reason)


def wanted_choice(wanted: str, reason: str) -> Choice:
    """The model that was asked for, by any name that the course knows. CourseError if it is not here."""
    model = resolve(wanted)
    if model.is_embedded:
        return embedded_because(reason)
    if model.folder is None:
        return Choice(downloaded_folder(model), model.model_id, reason)
    name = model.folder.name or str(model.folder)
    if not (model.folder / "config.json").is_file():
        raise CourseError(f"{name} is no model folder (no config.json): correct the path, or use embedded.")
    return Choice(model.folder, name, reason)


def downloaded_folder(model: ModelName) -> Path:
    """The folder of a model that was named by its id; CourseError if notebook 03 has not recorded it."""
    try:
        record = read_record()
    except (OSError, ValueError):
        raise CourseError(f"{model.model_id} is not here, because {UNREADABLE}.") from None
    if record is None or not same_model(record["model_id"], model.model_id):
        how = f"python -m helpers.download download {model.model_id}"
        if model.model_id == REAL_MODEL_ID:
            how = "run notebook 03"
        raise CourseError(f"{model.model_id} is not downloaded: {how}, or name its folder.")
    folder = Path(record["folder"])
    if not folder.is_dir():
        raise CourseError(f"{model.model_id} was downloaded, but {GONE}.")
    weights_bytes(folder)
    return folder


def recorded_choice() -> Choice:
    """The model that notebook 03 recorded, if it can be used here; else the embedded one, and why."""
    try:
        record = read_record()
    except (OSError, ValueError):
        return embedded_because(UNREADABLE)
    if record is None:
        return embedded_because("notebook 03 has not downloaded another one")
    folder = Path(record["folder"])
    if not folder.is_dir():
        return embedded_because(f"the downloaded one cannot be used, {GONE}")
    try:
        find_placement(folder)
    except CourseError as error:
        why = str(error).rstrip(".")
        return embedded_because(f"the downloaded one cannot be used ({why})")
    return Choice(folder, record["model_id"], "notebook 03 downloaded it")


def choose(wanted: str | Path) -> Choice:
    """What the argument or else COURSE_MODEL asks for; without either, what was recorded and fits here."""
    if str(wanted).strip():
        return wanted_choice(str(wanted), "it was asked for")
    if not wanted_model():
        return recorded_choice()
    try:
        return wanted_choice(wanted_model(), "COURSE_MODEL asks for it")
    except CourseError as error:
        raise CourseError(f"COURSE_MODEL: {error}") from None
