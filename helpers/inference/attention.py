"""Which implementation of attention a machine can use."""

from typing import NamedTuple


class Attention(NamedTuple):
    """An `attn_implementation` of transformers, and why it was chosen."""

    name: str
    reason: str


def has_flash_attn() -> bool:
    """Whether flash-attn can be used: a package that was built for another torch is installed, but fails."""
    try:
        import flash_attn  # noqa: F401  (imported late: it may be missing or broken, and takes seconds)
    except Exception:  # a broken package fails in many ways
        return False
    return True


def choose_attention(flash_attn_works: bool, capabilities: list[tuple[int, int]]) -> Attention:
    """Choose from what is installed and from the compute capability, such as (8, 6), of each GPU in use."""
    if not capabilities:
        return Attention("sdpa", "PyTorch's own; flash-attn runs on GPUs only")
    if min(capabilities) < (8, 0):
        return Attention("sdpa", "PyTorch's own; flash-attn needs GPUs of compute capability 8.0 or more")
    if not flash_attn_works:
        return Attention("sdpa", "PyTorch's own, which has a flash kernel too; flash-attn is not installed")
    return Attention("flash_attention_2", "flash-attn is installed and every GPU supports it")
