"""Ways of `generate()` in which the tokens that a model reads are not one text after the other.

A recorder sees only passes, and from a pass nobody can tell why it was run. So it looks at the options of
`generate()` before the first one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps

from transformers.generation import UnbatchedClassifierFreeGuidanceLogitsProcessor

from helpers import CourseError
from helpers.language import say


@contextmanager
def checked_generate(model, refusals: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """In the block, `model.generate` checks its options first, inside of `with refusals()`."""
    if not hasattr(model, "generate"):
        yield  # a part of a model, such as `model.model`
        return
    generate = model.generate
    before = vars(model).get("generate")  # set where another recording is going on, or by somebody else

    @wraps(generate)
    def checked(inputs=None, generation_config=None, *arguments, **options):
        with refusals():
            check_options(model, {**options, "generation_config": generation_config})
        return generate(inputs, generation_config, *arguments, **options)

    model.generate = checked
    try:
        yield
    finally:
        if before is None:
            del model.generate
        else:
            model.generate = before


def check_options(model, options: dict) -> None:
    """CourseError for options of `generate()` with which a model reads more than the text that it writes."""
    guidance = guidance_scale(model, options)
    if guidance not in (None, 1):
        raise CourseError(
            say(
                "The routing cannot be recorded: with guidance_scale={scale} the model reads a second text "
                "beside yours for every token, and its tokens would be counted as well; leave guidance_scale "
                "out.",
                scale=guidance,
            )
        )
    groups = option(model, options, "num_beam_groups")
    if groups not in (None, 1):
        raise CourseError(
            say(
                "The routing cannot be recorded: group-beam search (num_beam_groups={groups}) writes several "
                "answers side by side and drops all but the best; leave num_beam_groups out and use "
                "num_beams=1.",
                groups=groups,
            )
        )
    if option(model, options, "force_words_ids") or option(model, options, "constraints"):
        raise CourseError(
            say(
                "The routing cannot be recorded: words that the answer must hold (force_words_ids, "
                "constraints) are found by beam search, which drops all answers but the best; leave them out."
            )
        )
    penalty = option(model, options, "penalty_alpha")
    if penalty:
        raise CourseError(
            say(
                "The routing cannot be recorded: contrastive search (penalty_alpha={penalty}) reads several "
                "candidates for every token and drops all but one; leave penalty_alpha out.",
                penalty=penalty,
            )
        )


def option(model, options: dict, name: str):
    """What `generate()` will use: the option itself, else the configuration given, else that of the model."""
    for value in (
        options.get(name),
        getattr(options.get("generation_config"), name, None),
        getattr(model.generation_config, name, None),
    ):
        if value is not None:
            return value
    return None


def guidance_scale(model, options: dict) -> float | None:
    """The scale of classifier-free guidance, by its option or by a processor made by hand; None without."""
    for processor in options.get("logits_processor") or ():
        if isinstance(processor, UnbatchedClassifierFreeGuidanceLogitsProcessor):
            return processor.guidance_scale
    return option(model, options, "guidance_scale")
