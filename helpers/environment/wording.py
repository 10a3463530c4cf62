"""Parts of the sentences of `capacity`: figures with one digit, and always how much of a memory counts.

Sizes are bytes. They are shown in GiB = 2^30 bytes, those of small models in MB = 10^6 bytes.
"""

from helpers import GIB

SMALL = GIB // 20  # bytes of weights; less would be shown as 0.0 GiB


def weights(total: int, dtype: str) -> str:
    """As in "26.7 GiB in bfloat16"."""
    return f"{amount([total], total)} in {dtype}"


def amount(sizes: list[int] | tuple[int, ...], total: int) -> str:
    """As in "13.3 + 13.3 GiB"; `total` decides whether it is in GiB or MB."""
    divisor = GIB
    unit = "GiB"
    if total < SMALL:
        divisor = 10**6
        unit = "MB"
    figures = " + ".join(f"{size / divisor:.1f}" for size in sizes)
    return f"{figures} {unit}"


def seconds(time: float) -> str:
    """As in "about 0.38 s", "about 17 s"."""
    if time < 10:
        return f"about {time:.2g} s"
    return f"about {time:.0f} s"


def in_ram(used: int, total: int, counts: int, free: int | None) -> str:
    """As in "7.0 GiB in RAM (57.6 of 64.0 GiB free count)"; `free` None: nobody asked how much there is."""
    said = f"{amount([used], total)} in RAM"
    if free is None:
        return said
    return f"{said} ({counts / GIB:.1f} of {amount([free], GIB)} free count)"


def on_gpus(used: tuple[int, ...], total: int, counts: list[int], free: list[int]) -> str:
    """As in "13.3 + 13.3 GiB on the GPUs (22.3 + 22.3 of 23.3 + 23.3 GiB free count)"."""
    if not used:
        return "none on a GPU"
    room = " + ".join(f"{size / GIB:.1f}" for size in counts)
    return f"{amount(used, total)} on the GPUs ({room} of {amount(free, GIB)} free count)"


def hide(weak: list[str], kept: list[str], sentence: str) -> str:
    """How to show CUDA other GPUs and what it brings.

    `weak`: names of those to hide; [] if only the order changes. `kept`: as CUDA_VISIBLE_DEVICES names them.
    """
    what = "Better with the GPUs in another order"
    if weak:
        what = f"Better without {' and '.join(weak)}"
    command = f"export CUDA_VISIBLE_DEVICES={','.join(kept)}"
    return f"{what}: {command} before Python starts. Then: {sentence}"
