"""Every private name of a foreign package that the course must touch, in one place.

A private name may change with any release of its package. So each one is listed in `PRIVATE_NAMES` with the
version that it was checked with and the reason why nothing public does the job; the test
`tests/test_compat.py` says which name is gone when an upgrade breaks it. The functions below are the only
code that uses them.

Heavy packages are imported inside the functions, so that importing this module costs nothing.
"""

import importlib
from typing import NamedTuple


class PrivateName(NamedTuple):
    """One private name: `module` and `name` (dotted, from the module on), where it comes from, and why."""

    module: str
    name: str
    package: str
    checked_with: str  # version of the package
    reason: str


PRIVATE_NAMES: list[PrivateName] = [
    # helpers.routing
    PrivateName(
        module="torch._dynamo.eval_frame",
        name="OptimizedModule",
        package="torch",
        checked_with="2.13",
        reason="torch.compile(model) returns one, and nothing public tells a compiled model",
    ),
    PrivateName(
        module="torch.nn",
        name="Module._compiled_call_impl",
        package="torch",
        checked_with="2.13",
        reason="model.compile() sets it, and nothing public tells a compiled model",
    ),
    PrivateName(
        module="torch._dynamo.eval_frame",
        name="innermost_fn",
        package="torch",
        checked_with="2.13",
        reason="it undoes model.forward = torch.compile(model.forward), and nothing public tells it",
    ),
]


def is_there(entry: PrivateName) -> bool:
    """Whether the installed package still has this name."""
    found = importlib.import_module(entry.module)
    for part in entry.name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


# helpers.routing


def is_compiled(model) -> bool:
    """Whether torch.compile has replaced the code of a model, or of a part of it."""
    return any(_is_compiled_module(module) for module in model.modules())


def _is_compiled_module(module) -> bool:
    # Imported late: torch takes seconds to import.
    from torch._dynamo.eval_frame import OptimizedModule, innermost_fn

    if isinstance(module, OptimizedModule) or module._compiled_call_impl is not None:
        return True
    forward = module.forward
    was_disabled = getattr(forward, "_torchdynamo_disable", False)  # by torch.compiler.disable: not compiled
    return innermost_fn(forward) is not forward and not was_disabled
