"""Every private name of a foreign package that the course must touch, in one place.

A private name may change with any release of its package. So each one is listed in `PRIVATE_NAMES` with the
version that it was checked with and the reason why nothing public does the job; the test
`tests/test_compat.py` says which name is gone when an upgrade breaks it. The functions below are the only
code that uses them.

Heavy packages are imported inside the functions, so that importing this module costs nothing.
"""

import contextlib
import importlib
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple


class PrivateName(NamedTuple):
    """One private name: `module` and `name` (dotted, from the module on), where it comes from, and why."""

    module: str
    name: str
    package: str
    checked_with: str  # version of the package
    reason: str


PRIVATE_NAMES: list[PrivateName] = []


def is_there(entry: PrivateName) -> bool:
    """Whether the installed package still has this name."""
    found = importlib.import_module(entry.module)
    for part in entry.name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


# --- environment: the planner behind device_map="auto" ---

PRIVATE_NAMES += [
    PrivateName(
        module="transformers.integrations.accelerate",
        name="_get_device_map",
        package="transformers",
        checked_with="5.23.0",
        reason='what from_pretrained(device_map="auto") does, for memory that this machine does not have',
    ),
    PrivateName(
        module="transformers.integrations.accelerate",
        name="accelerate_max_memory",
        package="transformers",
        checked_with="5.23.0",
        reason="the planner asks it for the GPUs that are really here",
    ),
]


def auto_device_map(model, memory: dict[int | str, int], explicit: bool) -> dict[str, int | str]:
    """What from_pretrained(device_map="auto") makes of `model` (on meta) on a machine with this free memory.

    `memory`: free bytes of each GPU (0, 1 ...) and of "cpu". `explicit`: it is passed as `max_memory`, else
    transformers finds it out and leaves some of it alone. Returns module name -> GPU, "cpu" or "disk".
    """
    from unittest import mock

    from transformers.integrations import accelerate as planner  # imported late: it takes seconds

    def free_memory(asked: dict | None = None) -> dict:
        return dict(memory if asked is None else asked)

    passed = None
    if explicit:
        passed = dict(memory)
    quiet = mock.patch.object(planner.logger, "warning")  # about buffers of a few hundred bytes
    with quiet, mock.patch.object(planner, "accelerate_max_memory", free_memory):
        return dict(planner._get_device_map(model, "auto", passed, None))


# --- download: settings that ModelScope's client reads when it is imported, or does not offer at all ---

CLIENT = "modelscope_hub._download"

PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="tqdm",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="the client draws a bar for each file and has no switch for it; the course shows one bar",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DOWNLOAD_PARALLELS",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="pieces of one file fetched in parallel do not survive a change of this setting",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DOWNLOAD_TOTAL_TIMEOUT",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="an hour for a file is too short for 4 GB on a slow line",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="a second download waits for the first one, which may take longer than the client waits",
    )
)


@contextlib.contextmanager
def quiet_patient_client(seconds_a_file: int) -> Iterator[None]:
    """While this lasts, ModelScope's client draws no bars and may take so many seconds for each file."""
    client = importlib.import_module(CLIENT)
    settings = {
        "tqdm": partial(client.tqdm, disable=True),
        "DOWNLOAD_PARALLELS": 1,
        "DOWNLOAD_TOTAL_TIMEOUT": seconds_a_file,
        "DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS": seconds_a_file,
    }
    before = {name: getattr(client, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(client, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(client, name, value)
