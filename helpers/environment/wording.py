"""Figures of the sentences of `capacity`: with one digit, and always how much of a memory counts.

Sizes are bytes. They are shown in GiB = 2^30 bytes, those of small models in MB = 10^6 bytes. Each figure
comes with its own words, so that figures can be listed in both languages.
"""

from helpers import GIB
from helpers.language import say
from helpers.terminal import all_of

SMALL = GIB // 20  # bytes of weights; less would be shown as 0.0 GiB


def weights(total: int, dtype: str) -> str:
    """As in "26.7 GiB in bfloat16"."""
    return say("{size} in {dtype}", size=amount([total], total), dtype=dtype)


def amount(sizes: list[int] | tuple[int, ...], total: int) -> str:
    """As in "13.3 + 13.3 GiB"; `total` decides whether it is in GiB or MB."""
    divisor = GIB
    unit = "GiB"
    if total < SMALL:
        divisor = 10**6
        unit = "MB"
    figures = " + ".join(f"{size / divisor:.1f}" for size in sizes)
    return f"{figures} {unit}"


def digits(seconds: float) -> str:
    """As in "0.38", "17": two digits, and no more of the fraction than can be true."""
    if seconds < 10:
        return f"{seconds:.2g}"
    return f"{seconds:.0f}"


def in_ram(used: int, total: int, counts: int, free: int | None) -> str:
    """As in "7.0 GiB in RAM (57.6 of 64.0 GiB free count)"; `free` None: nobody asked how much there is."""
    size = amount([used], total)
    if free is None:
        return say("{used} in RAM", used=size)
    return say(
        "{used} in RAM ({counts} of {free} free count)",
        used=size,
        counts=f"{counts / GIB:.1f}",
        free=amount([free], GIB),
    )


def on_gpus(used: tuple[int, ...], total: int, counts: list[int], free: list[int]) -> str:
    """As in "13.3 + 13.3 GiB on the GPUs (22.3 + 22.3 of 23.3 + 23.3 GiB free count)"."""
    if not used:
        return say("none on a GPU")
    return say(
        "{used} on the GPUs ({counts} of {free} free count)",
        used=amount(used, total),
        counts=" + ".join(f"{size / GIB:.1f}" for size in counts),
        free=amount(free, GIB),
    )


def hide(weak: list[str], kept: list[str], sentence: str) -> str:
    """How to show CUDA other GPUs and what it brings.

    `weak`: names of those to hide; [] if only the order changes. `kept`: as CUDA_VISIBLE_DEVICES names them.
    """
    command = f"export CUDA_VISIBLE_DEVICES={','.join(kept)}"
    if weak:
        return say(
            "Better without {weak}: {command} before Python starts. Then: {sentence}",
            weak=all_of(weak),
            command=command,
            sentence=sentence,
        )
    return say(
        "Better with the GPUs in another order: {command} before Python starts. Then: {sentence}",
        command=command,
        sentence=sentence,
    )
