"""Which kind of model a config describes, and whether that is one that writes text. Standard library only.

`language_models.txt` has the `model_type` of every language model that the course's transformers knows; a
test compares it with the installed one. Environment check and loader ask the same function, so that a folder
that the check accepts is not refused an hour later.
"""

from functools import cache
from pathlib import Path

from helpers import CourseError
from helpers.environment.model_config import check_settings, is_quantized, read_settings, show
from helpers.environment.versions import lowest_versions
from helpers.language import say

LIST = Path(__file__).parent / "language_models.txt"


@cache
def language_models() -> frozenset[str]:
    """The `model_type` of every model that transformers' AutoModelForCausalLM loads."""
    return frozenset(LIST.read_text(encoding="utf-8").split())


def check_kind(settings: dict, name: str) -> None:
    """CourseError if these settings are not those of a model that writes text. `name`: of its folder."""
    kind = settings.get("model_type")
    if kind is None:
        raise CourseError(
            say(
                "The config.json of {name} does not say its model_type: copy or download it again.",
                name=name,
            )
        )
    if settings.get("is_encoder_decoder"):
        raise CourseError(
            say(
                "{name} is a model of the type {kind}, an encoder with a decoder, and the course runs "
                "decoders only: take a language model.",
                name=name,
                kind=show(kind),
            )
        )
    if not isinstance(kind, str) or kind not in language_models():
        raise CourseError(
            say(
                "{name} is a model of the type {kind}, and transformers {version} knows no language model of "
                "that type: take a language model.",
                name=name,
                kind=show(kind),
                version=lowest_versions()["transformers"],
            )
        )


def settings_to_load(folder: Path) -> dict:
    """What the config.json of a model folder says.

    CourseError for what the course does not load: a model that writes no text, a config that makes no sense,
    and quantized weights.
    """
    settings = read_settings(folder / "config.json")
    check_kind(settings, folder.name)
    check_settings(settings)
    if is_quantized(settings, folder):
        raise CourseError(
            say(
                "The weights of {name} are quantized, which the course does not load: "
                "take the version of the model in bfloat16.",
                name=folder.name,
            )
        )
    return settings
