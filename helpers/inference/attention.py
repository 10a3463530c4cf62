"""Which implementation of attention a machine can use."""

from enum import StrEnum
from typing import NamedTuple

from helpers.language import say


class Attention(NamedTuple):
    """An `attn_implementation` of transformers, and why it was chosen."""

    name: str
    reason: str


class FlashAttn(StrEnum):
    """What this machine has of the package flash-attn; it is broken if it was built for another torch."""

    WORKS = "works"
    MISSING = "not installed"
    BROKEN = "installed, but its import fails"


def flash_attn_state() -> FlashAttn:
    """Whether flash-attn can be imported."""
    try:
        import flash_attn  # noqa: F401  (imported late: it takes seconds)
    except ModuleNotFoundError as error:
        if error.name == "flash_attn":
            return FlashAttn.MISSING
        return FlashAttn.BROKEN
    except Exception:  # a broken package fails in many ways
        return FlashAttn.BROKEN
    return FlashAttn.WORKS


def choose_attention(flash_attn: FlashAttn, capabilities: list[tuple[int, int]]) -> Attention:
    """Choose by the state of flash-attn and the compute capability, such as (8, 6), of each GPU in use."""
    if not capabilities:
        return Attention("sdpa", say("PyTorch's own; flash-attn runs on GPUs only"))
    if min(capabilities) < (8, 0):
        reason = say("PyTorch's own; flash-attn needs GPUs of compute capability 8.0 or more")
        return Attention("sdpa", reason)
    if flash_attn == FlashAttn.MISSING:
        reason = say("PyTorch's own, which has a flash kernel too; flash-attn is not installed")
        return Attention("sdpa", reason)
    if flash_attn == FlashAttn.BROKEN:
        reason = say(
            "PyTorch's own, which has a flash kernel too; flash-attn is installed, but its import fails"
        )
        return Attention("sdpa", reason)
    return Attention("flash_attention_2", say("flash-attn is installed and every GPU supports it"))
