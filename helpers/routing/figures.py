"""Figures of notebook 06: they draw plain arrays and tables and know no model.

Readable in grey and on a phone: shades from light to dark, numbers in cells, hatches, line styles.
Each function shows its figure.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH = 6.4  # inches
TOKENS_PER_ROW = 12  # of a ribbon
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
}
LINE_LOOKS = ("o-", "s--", "^:", "D-.", "x-", "v--")  # marker and line style
BAR_LOOKS = (("0.35", ""), ("0.85", "//"), ("0.6", ".."), ("1", "xx"))  # shade of grey and hatch


def heatmap(values, rows: Sequence, xlabel: str, ylabel: str, title: str, *, scale: str) -> None:
    """A matrix (rows, columns) as shades, dark for large; `scale` says what the shades measure."""
    height = min(6, 1.6 + 0.35 * len(rows))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, height))
        image = axes.imshow(np.asarray(values), cmap="Greys", vmin=0, aspect="auto")
        step = 1 + len(rows) // 25  # not more labels than there is room for
        labelled = range(0, len(rows), step)
        axes.set_yticks(labelled, rows[::step])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        figure.colorbar(image, label=scale)
    plt.show()


def lines(series: Mapping, x: Sequence, xlabel: str, ylabel: str, title: str) -> None:
    """One line per entry of `series`, told apart by marker and line style."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
        looks = cycle(LINE_LOOKS)
        for name, values in series.items():
            axes.plot(x, values, next(looks), label=name, clip_on=False)  # whole markers also at the edge
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=3)
    plt.show()


def bars(series: Mapping, groups: Sequence, xlabel: str, ylabel: str, title: str) -> None:
    """For each of the `groups` one bar per entry of `series`, told apart by hatch."""
    width = 0.8 / len(series)
    first_bar = -(len(series) - 1) / 2 * width  # from the middle of a group to that of its first bar
    middle = np.arange(len(groups))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
        looks = cycle(BAR_LOOKS)
        for number, (name, values) in enumerate(series.items()):
            shade, hatch = next(looks)
            places = middle + first_bar + number * width
            axes.bar(places, values, width, label=name, color=shade, hatch=hatch, edgecolor="black")
        axes.set_xticks(range(len(groups)), groups)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        figure.legend(loc="outside lower center", ncols=4)
    plt.show()


def ribbon(tokens: Sequence[str], experts, layers: Sequence[int], title: str) -> None:
    """Tokens across, layers down: number and colour of the first expert; `experts` is (tokens, layers).

    Long texts are broken into rows. A token that is not plain ASCII is labelled with its place, as in #7.
    """
    experts = np.asarray(experts)
    starts = range(0, len(tokens), TOKENS_PER_ROW)
    height = 0.4 + len(starts) * (1 + 0.28 * len(layers))
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(len(starts), figsize=(WIDTH, height), squeeze=False)
        for start, axes in zip(starts, all_axes[:, 0], strict=True):
            row = slice(start, start + TOKENS_PER_ROW)
            names = [_axis_label(token, place) for place, token in enumerate(tokens[row], start)]
            _ribbon_row(axes, names, experts[row].T, experts.max())
            axes.set_yticks(range(len(layers)), layers)
            axes.set_ylabel("layer")
        figure.suptitle(title)
    plt.show()


def _ribbon_row(axes, names: list[str], experts, largest: int) -> None:
    """One row of a ribbon; `experts` is (layers, tokens), `largest` the largest in the ribbon."""
    axes.imshow(experts, cmap="turbo", alpha=0.45, vmin=0, vmax=max(1, largest), aspect="auto")
    for (layer, place), expert in np.ndenumerate(experts):
        axes.text(place, layer, expert, ha="center", va="center", fontsize=10)
    axes.set_xticks(range(len(names)), names, rotation=60, fontsize=10)
    axes.set_xlim(-0.5, TOKENS_PER_ROW - 0.5)  # a short last row keeps the width of its cells


def _axis_label(token: str, place: int) -> str:
    """The token if the font has its characters, else its place."""
    text = token.replace("\n", "\\n")
    if not text.isascii() or not text.isprintable():
        return f"#{place}"
    return text.replace("$", r"\$").strip() or "space"
