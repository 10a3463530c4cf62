"""Whether torch.compile can work on this machine."""

import os
import shutil

from helpers.language import say

COMPILERS = ("c++", "g++", "clang++")


def has_compiler() -> bool:
    """Whether there is a C++ compiler: torch.compile writes code that has to be translated here."""
    wanted = os.environ.get("CXX")
    if wanted:
        return shutil.which(wanted) is not None
    return any(shutil.which(compiler) for compiler in COMPILERS)


def no_compiler() -> str:
    """What to say where there is none."""
    return say(
        "torch.compile needs a C++ compiler, and this machine has none: install one "
        "(apt-get install g++), or go on without; nothing later needs it."
    )
