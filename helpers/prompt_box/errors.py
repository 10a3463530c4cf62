"""What to tell a learner when the model fails: what went wrong, and what helps."""

import re

from helpers import CourseError
from helpers.language import say

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)

# After one of these, every call to the GPU fails until the process has ended.
GPU_IS_LOST = re.compile("CUDA error|device-side assert|illegal memory access|CUDNN_STATUS|CUBLAS_STATUS")

# These have their cause in the model, its tokenizer or the settings.
SAME_EACH_TIME = re.compile(
    "same device|same dtype|scalar type|be cast to|not implemented for|index out of|inf`?, `?nan"
    "|shape|size of tensor|sizes of tensors",
    re.IGNORECASE,
)


def explain(error: Exception, has_begun: bool = False) -> str:
    """One sentence: what went wrong, and what to do. "Regenerate" only where another try may end better.

    `has_begun`: whether a part of the answer was there already when it failed.
    """
    message = str(error)
    if isinstance(error, CourseError):
        return message
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(message):
        return say("The memory ran out: press Clear, or lower the number of new tokens, and send again.")
    what = f"{type(error).__name__}: {message}".split("\n")[0][:200]
    if GPU_IS_LOST.search(message):
        return say("The GPU gave up ({what}): restart the kernel, and run the cells again.", what=what)
    if may_pass(error, has_begun):
        return say(
            "The model failed ({what}): press Regenerate, or restart the kernel if it fails again.", what=what
        )
    return say(
        "The model failed ({what}), and the same message would fail again: change it, press Clear, or load "
        "another model.",
        what=what,
    )


def may_pass(error: Exception, has_begun: bool) -> bool:
    """Whether the same question may get its answer at the next try.

    A wrong type, a missing key or a value that does not fit has its cause in the code or in the data. A model
    that failed at the first token fails there again; later, other tokens may be drawn. A disk may come back.
    """
    if isinstance(error, NotImplementedError | FileNotFoundError | PermissionError):
        return False
    if isinstance(error, OSError):
        return True
    return isinstance(error, RuntimeError) and has_begun and not SAME_EACH_TIME.search(str(error))
