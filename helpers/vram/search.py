"""The search for what fits: longest prompt, largest batch, and the cards that hold a model."""

from pathlib import Path
from typing import NamedTuple

from helpers import GB
from helpers.vram.configs import context_limit, load_config
from helpers.vram.forecasting import forecast

STEP_UP = 4  # factor between two tries while everything still fits
LARGEST_TRIED = 2**24  # a batch or a prompt beyond this is not looked for
PRECISION = 100  # the search ends when the answer is known to one part in so many


class CardKind(NamedTuple):
    """A kind of GPU: its size in bytes, and a dtype that it computes in."""

    size: int
    dtype: str


#: Kinds of cards; the nominal size is read cautiously, as 10^9 bytes per GB.
CARDS = {
    "V100 16 GB": CardKind(16 * GB, "float32"),
    "RTX 3090, RTX 4090, A10": CardKind(24 * GB, "bfloat16"),
    "V100 32 GB": CardKind(32 * GB, "float32"),
    "A100 40 GB": CardKind(40 * GB, "bfloat16"),
    "L20, L40S": CardKind(48 * GB, "bfloat16"),
    "A100 80 GB, H100": CardKind(80 * GB, "bfloat16"),
    "H20": CardKind(96 * GB, "bfloat16"),
    "H200": CardKind(141 * GB, "bfloat16"),
}


def in_memory(model, request: dict, **changes) -> bool:
    """Whether a request, with these changes, fits the memory."""
    return forecast(model, **{**request, **changes})["fits_memory"]


def largest_in_memory(setting: str, model, **request) -> int:
    """Largest "batch" or "prompt" that memory allows, to about 1 %, even if the model is not made for it."""
    fitting = 0
    too_large = request.get(setting, 1)
    while in_memory(model, request, **{setting: too_large}):
        fitting = too_large
        too_large = STEP_UP * too_large
        if too_large > LARGEST_TRIED:  # a window that slides can make memory independent of the prompt
            return fitting
    while too_large > fitting + 1 + fitting // PRECISION:
        # The geometric mean needs few steps at any size.
        middle = max(fitting + 1, int((fitting * too_large) ** 0.5))
        if in_memory(model, request, **{setting: middle}):
            fitting = middle
        else:
            too_large = middle
    return fitting


def largest(setting: str, model, **request) -> int:
    """Largest "batch" or "prompt" that fits, to about 1 %, the rest of `request` unchanged; 0 if none.

    A prompt ends where the model's context does, whatever memory would allow.
    """
    limit = limit_of(setting, model, **request)
    if limit is None:
        return largest_in_memory(setting, model, **request)
    if limit < 1:
        return 0
    if in_memory(model, request, **{setting: limit}):
        return limit
    return min(limit, largest_in_memory(setting, model, **request))


def limit_of(setting: str, model, new: int = 512, **request) -> int | None:
    """The longest prompt that leaves room for the answer in the model's context; None for no limit."""
    if setting != "prompt":
        return None
    config = model
    if isinstance(model, str | Path):
        config = load_config(model)
    limit = context_limit(config)
    if limit is None:
        return None
    return max(0, limit - new)


def cards(model, **request) -> dict[str, int | None]:
    """How many cards of each kind in `CARDS` hold the model and the request: 1, 2, or None for neither."""
    found = {}
    for name, card in CARDS.items():
        found[name] = None
        for count in (1, 2):
            if in_memory(model, request, gpus=[card.size] * count, dtype=card.dtype):
                found[name] = count
                break
    return found


def cards_of_this_size(model, gpus, limit: int = 16, **request) -> int | None:
    """How many GPUs of the first one's size hold the model and the request; None if over `limit`."""
    for count in range(len(gpus) + 1, limit + 1):
        if in_memory(model, request, gpus=gpus[:1] * count):
            return count
    return None
