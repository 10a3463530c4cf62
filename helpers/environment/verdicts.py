"""A line of the environment check, and what a model asks of a machine. Sizes in bytes."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from helpers import GIB
from helpers.environment.capacity import CARD_RESERVE, CUDA_CONTEXT, DISK_MARGIN
from helpers.environment.model_size import REAL_MODEL, ModelSize
from helpers.language import say, to_say

VERDICTS = (to_say("OK"), to_say("warning"), to_say("fail"))

WEIGHT_BYTES = 2 * REAL_MODEL.total  # in bf16: 26.67 GiB
CARD_BYTES = CUDA_CONTEXT + CARD_RESERVE  # on each card: CUDA itself, the peak of loading, a short chat
DISK_BYTES = WEIGHT_BYTES + 576_560 + DISK_MARGIN  # the download (its files have headers) and a margin
LOADING_RAM = 8 * GIB  # a rule of thumb: the weights pass through RAM one file of 3.7 GiB at a time


class Check(NamedTuple):
    """One line of the table: the verdict is one of `VERDICTS`, the repair a command or an advice.

    `name` and `verdict` are the same in every language, and are said in the table only. `slow`: the repair
    tells of a slow way to run the model.
    """

    name: str
    found: str
    needed: str
    verdict: str
    repair: str
    slow: bool = False

    @property
    def in_short(self) -> str:
        """The repair up to its colon: what is so, without the figures."""
        return re.split("[:：]", self.repair)[0]


def judge(
    name: str, *, found: str, needed: str, good: bool, otherwise: str = "fail", repair: str = ""
) -> Check:
    """A line that is OK if `good`, else has the verdict `otherwise` and a repair."""
    if good:
        return Check(name=name, found=found, needed=needed, verdict="OK", repair="")
    return Check(name=name, found=found, needed=needed, verdict=otherwise, repair=repair)


@dataclass(frozen=True)
class Needs:
    """What a model asks of a machine; sizes in bytes."""

    size: ModelSize | None  # None: the embedded model, which fits everywhere
    ram: int
    download: int  # on the disk that takes models; 0: it is there already
    where: str = ""  # where it is there

    @classmethod
    def of(cls, model: str | ModelSize) -> "Needs":
        """What "real", "embedded" or a model of this size needs."""
        if model == "embedded":
            return cls(None, 2 * GIB, 0, say("the embedded model is part of the course"))
        if model == "real":
            return cls(REAL_MODEL, LOADING_RAM, DISK_BYTES)
        return cls(model, LOADING_RAM, 0, say("your own model folder is there"))
