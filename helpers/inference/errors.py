"""One sentence for what goes wrong somewhere inside torch or transformers."""

from pathlib import Path

from helpers import CourseError
from helpers.language import say


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a GPU ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def first_line(error: BaseException) -> str:
    """What an error says, up to the end of its first line, to stand in brackets."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:。")


def cannot_load(model_dir: Path, error: Exception) -> CourseError:
    """The sentence for what went wrong with a model folder inside of transformers: the first line of it."""
    model = model_dir.name
    words = first_line(error)
    if is_out_of_memory(error):
        return CourseError(
            say(
                "The memory ran out while {model} was loaded ({words}): shut down the other kernels and "
                "programs that use it, restart this kernel, and load again.",
                model=model,
                words=words,
            )
        )
    if "ignore_mismatched_sizes" in str(error):
        return CourseError(
            say(
                "The weights of {model} have other sizes than its config.json says: copy or download the "
                "folder again, so that both are of the same model.",
                model=model,
            )
        )
    return CourseError(
        say(
            "transformers cannot load {model} ({words}): a file is damaged, or of a kind that this version "
            "does not know.",
            model=model,
            words=words,
        )
    )


def weights_are_missing(model_dir: Path, missing: set[str]) -> CourseError:
    """The sentence for weights that are not those of the model in config.json: transformers invents them."""
    return CourseError(
        say(
            "{count} tensors of the model in config.json are not in the files of {model}, such as {first}: "
            "transformers would fill them with random numbers. Copy or download the folder again, so that "
            "both are of the same model.",
            count=len(missing),
            model=model_dir.name,
            first=min(missing),
        )
    )
