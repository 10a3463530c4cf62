"""Which implementation of attention a machine can use."""

from typing import NamedTuple


class Attention(NamedTuple):
    """An `attn_implementation` of transformers, and why it was chosen."""

    name: str
    reason: str


def flash_attn_state() -> str:
    """ "works", "not installed", or "installed, but its import fails" if it was built for another torch."""
    try:
        import flash_attn  # noqa: F401  (imported late: it takes seconds)
    except ModuleNotFoundError as error:
        if error.name == "flash_attn":
            return "not installed"
        return "installed, but its import fails"
    except Exception:  # a broken package fails in many ways
        return "installed, but its import fails"
    return "works"


def choose_attention(flash_attn: str, capabilities: list[tuple[int, int]]) -> Attention:
    """Choose by the state of flash-attn and the compute capability, such as (8, 6), of each GPU in use."""
    if not capabilities:
        return Attention("sdpa", "PyTorch's own; flash-attn runs on GPUs only")
    if min(capabilities) < (8, 0):
        return Attention("sdpa", "PyTorch's own; flash-attn needs GPUs of compute capability 8.0 or more")
    if flash_attn != "works":
        return Attention("sdpa", f"PyTorch's own, which has a flash kernel too; flash-attn is {flash_attn}")
    return Attention("flash_attention_2", "flash-attn is installed and every GPU supports it")
