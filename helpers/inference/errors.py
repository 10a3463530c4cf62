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
    return CourseError(
        f"transformers cannot load {model_dir.name} ({first_line}): a file is damaged, or of a kind that "
        "this version does not know."
    )
