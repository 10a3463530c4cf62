"""The end of a benchmark that compares two ways in pairs: the median of the ratios, held against a bar."""

import statistics
from collections.abc import Sequence


def held_against(bar: float, ratios: Sequence[float], what: str, digits: int) -> int:
    """Print the median of the ratios and whether it reaches the bar; the exit status of the benchmark."""
    ratio = statistics.median(ratios)
    rounded = sorted(round(one, digits) for one in ratios)
    print(f"{what}: median {ratio:.{digits}f} of {rounded}")
    if ratio < bar:
        print(f"bar {bar}: NOT reached")
        return 1
    print(f"bar {bar}: reached")
    return 0
