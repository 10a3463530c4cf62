"""Which options of `generate` a stream can take: the wrong ones are refused before the model computes."""

import copy

from helpers import CourseError

#: What the stream itself hands to `generate`.
OWN = ("inputs", "input_ids", "attention_mask", "inputs_embeds", "streamer", "stopping_criteria")


def effective_config(model, options: dict):
    """The generation_config that `generate` will use: that of the options or of the model, with the options.

    CourseError for an option that the stream sets itself, and for a value that transformers refuses.
    """
    for name in OWN:
        if name in options:
            raise CourseError(
                f"A stream of the chat hands {name} to generate itself: leave it out, or call model.generate."
            )
    config = options.get("generation_config")
    if config is None:
        config = model.generation_config
    config = copy.deepcopy(config)
    settings = {name: value for name, value in options.items() if name != "generation_config"}
    try:
        config.update(**settings)
    except (ValueError, TypeError) as error:
        raise refused(error) from error
    return config


def check_streamable(config) -> None:
    """Refuse settings with which there is no single answer that grows token by token."""
    if (config.num_beams or 1) > 1:
        raise CourseError(
            f"num_beams={config.num_beams} cannot be streamed, because beam search knows its answer only at "
            "the end: set num_beams=1, or call model.generate."
        )
    if (config.num_return_sequences or 1) > 1:
        raise CourseError(
            f"num_return_sequences={config.num_return_sequences} cannot be streamed, because a stream is one "
            "answer: set it to 1, or start one stream after the other."
        )
    if config.use_cache is False:
        raise CourseError(
            "use_cache=False would compute the whole chat again for every token: leave it out, or call "
            "model.generate."
        )


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
    words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    return CourseError(f"generate refuses these options ({words}): correct them, or leave them out.")
