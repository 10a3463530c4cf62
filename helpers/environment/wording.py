"""Parts of the sentences of `capacity`: figures with one digit, and always how much of a memory counts.

Sizes are bytes and are shown in GiB = 2^30 bytes.
"""

from helpers import GIB


def weights(size: int, dtype: str) -> str:
    """As in "26.7 GiB in bfloat16"."""
    return f"{amount(size)} in {dtype}"


def amount(size: int) -> str:
    """As in "26.7 GiB"; small models in MB = 10^6 bytes."""
    if size < GIB // 20:
        return f"{size / 1e6:.1f} MB"
    return f"{size / GIB:.1f} GiB"


def seconds(time: float) -> str:
    """As in "about 0.38 s", "about 17 s"."""
    if time < 10:
        return f"about {time:.2g} s"
    return f"about {time:.0f} s"


def ram(used: int, counts: int, free: int | None) -> str:
    """As in "7.0 GiB in RAM (57.6 of 64.0 GiB free count)"; `free` None: nobody asked how much there is."""
    said = f"{amount(used)} in RAM"
    if free is None:
        return said
    return f"{said} ({counts / GIB:.1f} of {free / GIB:.1f} GiB free count)"


def gpus(used: tuple[int, ...], free: list[int], counts: list[int]) -> str:
    """As in "13.3 GiB + 13.3 GiB on the GPUs (22.3 + 22.3 of 23.3 + 23.3 GiB free count)"."""
    if not used:
        return "no GPU"
    shares = " + ".join(amount(size) for size in used)
    return f"{shares} on the GPUs ({_sum(counts)} of {_sum(free)} GiB free count)"


def hide(weak: list[str], kept: list[str], sentence: str) -> str:
    """How to hide the weak GPUs, keeping `kept` (as CUDA_VISIBLE_DEVICES names them), and what it brings."""
    return (
        f"Better without {' and '.join(weak)}: hide it with export CUDA_VISIBLE_DEVICES={','.join(kept)} "
        f"before Python starts. Then: {sentence}"
    )


def _sum(sizes: list[int]) -> str:
    return " + ".join(f"{size / GIB:.1f}" for size in sizes)
