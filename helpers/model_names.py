"""What a learner means by the name of a model: one answer for every command of the course.

A model can be named by a folder, by the words `real` and `embedded`, by its id on ModelScope (`owner/name`),
by the address of its page, or by the bare name of one of the two models of the course. Ids compare without
case: `Qwen/…` and `qwen/…` are the same model. Standard library only.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID, CourseError
from helpers.language import say, to_say

#: The toy's id on the course's local hub (`helpers.download.local_hub`); it exists on no other hub.
EMBEDDED_MODEL_ID = "moe-course/embedded-toy-model"

#: What an id looks like; a dot at the start would lead out of the folder that is named after the id.
ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

#: The page of a model, as a browser's address line shows it.
PAGE = re.compile(
    r"(?:https?://)?[\w.-]*\b(?:modelscope|huggingface|hf-mirror)\.[\w.]+/(?:models/)?([^/?#]+/[^/?#]+).*",
    re.IGNORECASE,
)

HOW_TO_NAME = to_say(
    "give a model folder, real, embedded, {real_model}, its name without the owner, or another owner/name"
)
QUOTES = {("'", "'"), ('"', '"'), ("‘", "’"), ("“", "”")}
SHOWN = 200  # characters of what was typed; more is no help


@dataclass(frozen=True)
class ModelName:
    """A model, understood.

    text: what was typed. model_id: the id on the hub; None for a folder whose name is no id. folder: the
    folder that was named, or that of the embedded model; None for a model that is named by its id. A folder
    whose relative path is an id, such as `qwen/Qwen1.5-MoE-A2.7B-Chat`, has both: what is on this disk comes
    first, except for a download.
    """

    text: str
    model_id: str | None
    folder: Path | None

    @property
    def is_real(self) -> bool:
        """Whether the real model of the course is meant, and no folder."""
        return self.folder is None and self.model_id == REAL_MODEL_ID

    @property
    def is_embedded(self) -> bool:
        """Whether the model inside the course is meant."""
        return self.folder is not None and self.folder.resolve() == EMBEDDED_MODEL.resolve()


def how_to_name() -> str:
    """What can be given as the name of a model, to stand at the end of a sentence."""
    return say(HOW_TO_NAME, real_model=REAL_MODEL_ID)


def same_model(one: str, other: str) -> bool:
    """Whether two ids name the same model: letters' case does not count."""
    return one.casefold() == other.casefold()


def canonical_id(model_id: str) -> str:
    """The id in the course's own spelling, for the two models of the course; any other as it is."""
    for known in (REAL_MODEL_ID, EMBEDDED_MODEL_ID):
        if same_model(model_id, known):
            return known
    return model_id


def resolve(text: str | Path) -> ModelName:
    """Understand the name of a model; CourseError with what can be given if it is none.

    The words come before folders of the same name (write `./real` for such a folder), folders before ids.
    Nothing is looked up on a hub, and the record of a download is not read.
    """
    typed = without_quotes(str(text).strip())
    if not typed:
        raise CourseError(say("No model is named: {how}.", how=how_to_name()))
    word = typed.casefold()
    if word == "real":
        return ModelName(typed, REAL_MODEL_ID, None)
    if word == "embedded":
        return ModelName(typed, EMBEDDED_MODEL_ID, EMBEDDED_MODEL)
    model_id = read_id(typed)
    folder = _existing_folder(typed)
    if folder is None and model_id == EMBEDDED_MODEL_ID:
        folder = EMBEDDED_MODEL
    if folder is None and model_id is None:
        raise CourseError(_unknown(typed))
    return ModelName(typed, model_id, folder)


def without_quotes(text: str) -> str:
    """The text without the pairs of quotation marks around it, as they come along when it is copied."""
    while len(text) > 1 and (text[0], text[-1]) in QUOTES:
        text = text[1:-1].strip()
    return text


def read_id(typed: str) -> str | None:
    """The id that a text names, in the course's spelling; None if it names none."""
    page = PAGE.fullmatch(typed)
    if page:
        typed = page[1].removesuffix(".git")  # the address from which git clones
    name = typed.rstrip("/").replace("___", ".")  # older clients wrote the dots of a name so
    for known in (REAL_MODEL_ID, EMBEDDED_MODEL_ID):
        bare = known.split("/")[1]
        if same_model(name, bare):
            return known
    if ID.fullmatch(name):
        return canonical_id(name)
    return None


def _existing_folder(typed: str) -> Path | None:
    """The folder of that path or around that config.json, if there is one; CourseError for any other file."""
    try:
        path = Path(typed).expanduser()
        if path.is_dir():
            return path
        is_file = path.is_file()
    except PermissionError:
        sentence = say(
            "{typed} may not be read by this user: change its permissions, or {how}.",
            typed=shown(typed),
            how=how_to_name(),
        )
        raise CourseError(sentence) from None
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # no such user, a text that can be no path
        return None
    if is_file and path.name == "config.json":
        return path.parent
    if is_file:
        folder = path.parent.absolute()
        raise CourseError(
            say(
                "{name} is a file, not a model: name its folder, {folder}.",
                name=shown(path.name),
                folder=shown(str(folder)),
            )
        )
    return None


def shown(typed: str) -> str:
    """What was typed, on one line, and not too long."""
    start = typed[:SHOWN]
    if start.isprintable():
        return start
    return repr(start)


def _unknown(typed: str) -> str:
    """The sentence for a text that names nothing."""
    start = shown(typed)
    how = how_to_name()
    if "://" in typed:
        return say(
            "{typed} is no page of a model on ModelScope or Hugging Face: {how}.", typed=start, how=how
        )
    if typed.startswith(("/", ".", "~")) or "\\" in typed or typed.count("/") > 1:
        return say("There is no folder {typed}: correct the path, or {how}.", typed=start, how=how)
    known = {"real": "real", "embedded": "embedded"}
    for model_id in (REAL_MODEL_ID, EMBEDDED_MODEL_ID):
        known[model_id.casefold()] = model_id
        known[model_id.split("/")[1].casefold()] = model_id
    close = get_close_matches(typed.casefold(), known, n=1, cutoff=0.75)
    if close:
        return say(
            "{typed} is no folder and no model that the course knows (did you mean {close}?): {how}.",
            typed=repr(typed[:SHOWN]),
            close=known[close[0]],
            how=how,
        )
    return say(
        "{typed} is no folder and no model that the course knows: {how}.", typed=repr(typed[:SHOWN]), how=how
    )
