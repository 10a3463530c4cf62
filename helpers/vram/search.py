"""The search for what fits: longest prompt, largest batch, and the cards that hold a model."""

from typing import NamedTuple

from helpers import GB
from helpers.vram.forecasting import forecast

STEP_UP = 4  # factor between two tries while everything still fits
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


def fits(model, request: dict, **changes) -> bool:
    """Whether a request, with these changes, fits."""
    return forecast(model, **{**request, **changes})["fits"]


def largest(setting: str, model, **request) -> int:
    """Largest "batch" or "prompt" that fits, to about 1 %, the rest of `request` unchanged; 0 if none."""
    fitting = 0
    too_large = request.get(setting, 1)
    while fits(model, request, **{setting: too_large}):
        fitting = too_large
        too_large = STEP_UP * too_large
    while too_large > fitting + 1 + fitting // PRECISION:
        # The geometric mean needs few steps at any size.
        middle = max(fitting + 1, int((fitting * too_large) ** 0.5))
        if fits(model, request, **{setting: middle}):
            fitting = middle
        else:
            too_large = middle
    return fitting


def cards(model, **request) -> dict[str, int | None]:
    """How many cards of each kind in `CARDS` hold the model and the request: 1, 2, or None for neither."""
    found = {}
    for name, card in CARDS.items():
        found[name] = None
        for count in (1, 2):
            if fits(model, request, gpus=[card.size] * count, dtype=card.dtype):
                found[name] = count
                break
    return found


def cards_of_this_size(model, gpus, limit: int = 16, **request) -> int | None:
    """How many GPUs of the first one's size hold the model and the request; None if over `limit`."""
    for count in range(len(gpus) + 1, limit + 1):
        if fits(model, request, gpus=gpus[:1] * count):
            return count
    return None
