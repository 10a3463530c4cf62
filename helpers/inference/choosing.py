"""Choose the model that the notebooks run on. The door is `helpers.choose_model`."""

from pathlib import Path
from typing import NamedTuple

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID, CourseError
from helpers.download.errors import without_stop
from helpers.inference.model_folder import weights_bytes
from helpers.inference.placement import find_placement
from helpers.language import say, to_say
from helpers.model_names import ModelName, resolve, same_model
from helpers.settings import read_record, wanted_model


class Choice(NamedTuple):
    """A model folder, and the sentence that says which model it is and why it was chosen."""

    folder: Path
    sentence: str


class Wish(NamedTuple):
    """Where a model was asked for, in sentences: for the embedded model, and for any other one."""

    embedded: str
    other: str


BY_ARGUMENT = Wish(
    embedded=to_say("Model: the embedded toy model, because it was asked for."),
    other=to_say("Model: {name}, because it was asked for."),
)
BY_VARIABLE = Wish(
    embedded=to_say("Model: the embedded toy model, because COURSE_MODEL asks for it."),
    other=to_say("Model: {name}, because COURSE_MODEL asks for it."),
)


def embedded_choice(sentence: str) -> Choice:
    """The model that is always there."""
    return Choice(EMBEDDED_MODEL, sentence)


def wanted_choice(wanted: str, wish: Wish) -> Choice:
    """The model that was asked for, by any name that the course knows. CourseError if it is not here."""
    model = resolve(wanted)
    if model.is_embedded:
        return embedded_choice(say(wish.embedded))
    if model.folder is None:
        return Choice(downloaded_folder(model), say(wish.other, name=model.model_id))
    name = model.folder.name or str(model.folder)
    if not (model.folder / "config.json").is_file():
        raise CourseError(
            say("{name} is no model folder (no config.json): correct the path, or use embedded.", name=name)
        )
    return Choice(model.folder, say(wish.other, name=name))


def downloaded_folder(model: ModelName) -> Path:
    """The folder of a model that was named by its id; CourseError if notebook 03 has not recorded it."""
    try:
        record = read_record()
    except (OSError, ValueError):
        raise CourseError(
            say(
                "{model} is not here, because the record of the downloaded one cannot be read (run notebook "
                "03 again).",
                model=model.model_id,
            )
        ) from None
    if record is None or not same_model(record["model_id"], model.model_id):
        raise not_downloaded(model.model_id)
    folder = Path(record["folder"])
    if not folder.is_dir():
        raise CourseError(
            say(
                "{model} was downloaded, but its folder is gone (a saved image of AutoDL keeps the system "
                "disk, not the data disk): run notebook 03 again.",
                model=model.model_id,
            )
        )
    weights_bytes(folder)
    return folder


def not_downloaded(model_id: str) -> CourseError:
    """The sentence for a model that notebook 03 has not recorded: how it comes here."""
    if model_id == REAL_MODEL_ID:
        return CourseError(
            say("{model} is not downloaded: run notebook 03, or name its folder.", model=model_id)
        )
    return CourseError(
        say(
            "{model} is not downloaded: python -m helpers.download download {model}, or name its folder.",
            model=model_id,
        )
    )


def recorded_choice() -> Choice:
    """The model that notebook 03 recorded, if it can be used here; else the embedded one, and why."""
    try:
        record = read_record()
    except (OSError, ValueError):
        return embedded_choice(
            say(
                "Model: the embedded toy model, because the record of the downloaded one cannot be read (run "
                "notebook 03 again)."
            )
        )
    if record is None:
        return embedded_choice(
            say("Model: the embedded toy model, because notebook 03 has not downloaded another one.")
        )
    folder = Path(record["folder"])
    if not folder.is_dir():
        return embedded_choice(
            say(
                "Model: the embedded toy model, because the downloaded one cannot be used, its folder is "
                "gone (a saved image of AutoDL keeps the system disk, not the data disk): run notebook 03 "
                "again."
            )
        )
    try:
        find_placement(folder)
    except CourseError as error:
        return embedded_choice(
            say(
                "Model: the embedded toy model, because the downloaded one cannot be used ({why}).",
                why=without_stop(error),
            )
        )
    return Choice(folder, say("Model: {name}, because notebook 03 downloaded it.", name=record["model_id"]))


def choose(wanted: str | Path) -> Choice:
    """What the argument or else COURSE_MODEL asks for; without either, what was recorded and fits here."""
    if str(wanted).strip():
        return wanted_choice(str(wanted), BY_ARGUMENT)
    if not wanted_model():
        return recorded_choice()
    try:
        return wanted_choice(wanted_model(), BY_VARIABLE)
    except CourseError as error:
        raise CourseError(say("COURSE_MODEL: {sentence}", sentence=error)) from None
