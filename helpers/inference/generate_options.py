"""Which options of `generate` a stream can take: the wrong ones are refused before the model computes."""

import copy
from numbers import Integral

from helpers import CourseError
from helpers.inference.errors import first_line
from helpers.language import say

#: What the stream itself hands to `generate`, or what follows from it.
OWN = (
    "inputs",
    "input_ids",
    "attention_mask",
    "inputs_embeds",
    "position_ids",
    "streamer",
    "stopping_criteria",
)
#: Options with which `generate` fetches code from a hub and runs it.
FOREIGN_CODE = ("custom_generate", "trust_remote_code")


def effective_config(model, options: dict):
    """The generation_config that `generate` will use: that of the options or of the model, with the options.

    CourseError for an option that the stream sets itself, and for a value that transformers refuses.
    """
    for name in OWN:
        if name in options:
            raise CourseError(
                say(
                    "A stream of the chat hands {name} to generate itself: leave it out, or call "
                    "model.generate.",
                    name=name,
                )
            )
    for name in FOREIGN_CODE:
        if options.get(name):
            raise CourseError(say("{name} would run code that comes with a model: leave it out.", name=name))
    config = options.get("generation_config")
    if config is None:
        config = model.generation_config
    if not hasattr(config, "num_beams"):
        raise CourseError(
            say(
                "generation_config is of type {kind}: give a GenerationConfig of transformers, or the "
                "options one by one.",
                kind=type(config).__name__,
            )
        )
    processors = options.get("logits_processor")
    if processors is not None and not isinstance(processors, (list, tuple)):
        raise CourseError(say("logits_processor is no list: put what you have into a list, [...]."))
    config = copy.deepcopy(config)
    settings = {name: value for name, value in options.items() if name != "generation_config"}
    try:
        config.update(**settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise refused(error) from error
    return config


def check_streamable(config) -> None:
    """Refuse settings with which there is no single answer that grows token by token."""
    check_numbers(config)
    if (config.num_beams or 1) > 1:
        raise CourseError(
            say(
                "num_beams={count} cannot be streamed, because beam search knows its answer only at the end: "
                "set num_beams=1, or call model.generate.",
                count=config.num_beams,
            )
        )
    if (config.num_return_sequences or 1) > 1:
        raise CourseError(
            say(
                "num_return_sequences={count} cannot be streamed, because a stream is one answer: set it to "
                "1, or start one stream after the other.",
                count=config.num_return_sequences,
            )
        )
    if config.use_cache is not None and not config.use_cache:
        raise CourseError(
            say(
                "use_cache=False would compute the whole chat again for every token: leave it out, or call "
                "model.generate."
            )
        )


def check_numbers(config) -> None:
    """Refuse counts below 1 and words where tokens belong: transformers ends with an error of its own."""
    for name in ("num_beams", "num_return_sequences"):
        value = getattr(config, name)
        if value is not None and (not isinstance(value, Integral) or value < 1):
            raise CourseError(
                say("{name} is {value!r}: set it to 1, or leave it out.", name=name, value=value)
            )
    if not are_stop_strings(config.stop_strings):
        raise CourseError(
            say(
                "stop_strings is {value!r}: give a list of texts such as ['\\n'], or leave it out.",
                value=config.stop_strings,
            )
        )
    try:
        end_tokens(config)
    except (TypeError, ValueError) as error:
        raise CourseError(
            say(
                "eos_token_id is {value!r}: give the number of a token, or a list of numbers.",
                value=config.eos_token_id,
            )
        ) from error


def are_stop_strings(texts) -> bool:
    """Whether this is what `generate` takes as stop_strings: None, a text or a list of texts, none empty."""
    if texts is None:
        return True
    if isinstance(texts, str):
        return texts != ""
    if not isinstance(texts, (list, tuple)) or not texts:
        return False
    return all(isinstance(text, str) and text for text in texts)


def end_tokens(config) -> list[int]:
    """The tokens that end a turn."""
    ends = config.eos_token_id
    if ends is None:
        return []
    if isinstance(ends, int):
        return [ends]
    return [int(token) for token in ends]


def refused(error: Exception) -> CourseError:
    """The sentence for options that transformers refuses, in its own words."""
    return CourseError(
        say(
            "generate refuses these options ({words}): correct them, or leave them out.",
            words=first_line(error),
        )
    )
