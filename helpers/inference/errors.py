"""One sentence for what goes wrong somewhere inside torch or transformers."""

from pathlib import Path

from helpers import CourseError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a GPU ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def cannot_load(model_dir: Path, error: Exception) -> CourseError:
    """The sentence for what went wrong with a model folder inside of transformers: the first line of it."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    if is_out_of_memory(error):
        return CourseError(
            f"The memory ran out while {model_dir.name} was loaded ({first_line}): shut down the other "
            "kernels and programs that use it, restart this kernel, and load again."
        )
    if "ignore_mismatched_sizes" in str(error):
        return CourseError(
            f"The weights of {model_dir.name} have other sizes than its config.json says: copy or download "
            "the folder again, so that both are of the same model."
        )
    return CourseError(
        f"transformers cannot load {model_dir.name} ({first_line}): a file is damaged, or of a kind that "
        "this version does not know."
    )


def weights_are_missing(model_dir: Path, missing: set[str]) -> CourseError:
    """The sentence for weights that are not those of the model in config.json: transformers invents them."""
    first = min(missing)
    return CourseError(
        f"{len(missing)} tensors of the model in config.json are not in the files of {model_dir.name}, such "
        f"as {first}: transformers would fill them with random numbers. Copy or download the folder again, "
        "so that both are of the same model."
    )
