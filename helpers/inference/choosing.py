"""Choose the model that the notebooks run on. The door is `helpers.choose_model`."""

from pathlib import Path
from typing import NamedTuple

from helpers import EMBEDDED_MODEL, CourseError
from helpers.inference.memory import read_free_memory
from helpers.inference.model_folder import weights_bytes
from helpers.inference.placement import place
from helpers.settings import read_record, wanted_model


class Choice(NamedTuple):
    """A model folder, what to call it, and why it was chosen."""

    folder: Path
    name: str
    reason: str


def embedded_because(reason: str) -> Choice:
    """The model that is always there."""
    return Choice(EMBEDDED_MODEL, "the embedded toy model", reason)


def wanted_choice(wanted: str, reason: str) -> Choice:
    """The model that was asked for: a folder, or `embedded`. CourseError for anything else."""
    if wanted == "embedded":
        return embedded_because(reason)
    folder = Path(wanted).expanduser()
    name = Path(wanted).name
    if not (folder / "config.json").is_file():
        raise CourseError(f"{name} is no model folder (no config.json): correct the path, or use embedded.")
    return Choice(folder, name, reason)


def recorded_choice() -> Choice:
    """The model that notebook 03 recorded, if it can be used here; else the embedded one, and why."""
    try:
        record = read_record()
        if record is None:
            return embedded_because("notebook 03 has not downloaded another one")
        folder = Path(record["folder"])
        place(weights_bytes(folder), read_free_memory())
        return Choice(folder, record["model_id"], "notebook 03 downloaded it")
    except CourseError as error:
        why = str(error).rstrip(".")
        return embedded_because(f"the downloaded one cannot be used ({why})")
    except (OSError, ValueError):
        return embedded_because("the record of the downloaded one cannot be read (run notebook 03 again)")


def choose(wanted: str = "") -> Choice:
    """What the argument or else COURSE_MODEL asks for; without either, what was recorded and fits here."""
    if wanted.strip():
        return wanted_choice(wanted.strip(), "--model asks for it")
    if wanted_model():
        return wanted_choice(wanted_model(), "COURSE_MODEL asks for it")
    return recorded_choice()
