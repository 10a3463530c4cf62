"""Figures of notebook 06: they draw plain arrays and tables and know no model.

Readable in grey and on a phone: shades from light to dark, numbers in cells, hatches, line styles; narrow
enough that a phone shrinks them little. Tried with 24 layers of 60 experts. Each function shows its figure.
"""

import html
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.ticker import MaxNLocator

WIDTH = 5.2  # inches, 520 pixels; a phone has 390
TOKENS_PER_ROW = 12  # of a ribbon
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
}
LINE_LOOKS = ("o-", "s--", "^:", "D-.", "x-", "v--")  # marker and line style
LINE_SHADES = ("black", "0.35", "0.15", "0.5", "0.3", "0.55")
BAR_LOOKS = (("0.35", ""), ("0.85", "//"), ("0.6", ".."), ("1", "xx"))  # shade of grey and hatch


def heatmap(values, rows: Sequence, xlabel: str, ylabel: str, title: str, *, scale: str) -> None:
    """A matrix (rows, columns) as shades, dark for large; `scale` says what the shades measure."""
    height = min(5.5, 1.8 + 0.35 * len(rows))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, height))
        image = axes.imshow(np.asarray(values), cmap="Greys", vmin=0, aspect="auto")
        step = 1 + len(rows) // 25  # not more labels than there is room for
        labelled = range(0, len(rows), step)
        axes.set_yticks(labelled, rows[::step])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        figure.colorbar(image, label=scale, pad=0.02)
    plt.show()


def lines(
    series: Mapping, x: Sequence, xlabel: str, ylabel: str, title: str, *, doubling: bool = False
) -> None:
    """One line per entry of `series` (a dictionary or a table), told apart by marker and line style.

    `doubling`: each of the x is twice the one before, and the axis gives all of them the same room.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
        looks = zip(cycle(LINE_LOOKS), cycle(LINE_SHADES), strict=False)
        for (name, values), (look, shade) in zip(series.items(), looks, strict=False):
            axes.plot(x, values, look, color=shade, label=name, clip_on=False)  # whole markers at the edge
        if doubling:
            axes.set_xscale("log", base=2)
            axes.set_xticks(x, [str(value) for value in x])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        highest = max(np.max(values) for _, values in series.items())
        axes.set_ylim(0, 1.08 * highest)  # no marker in the title
        figure.legend(loc="outside lower center", ncols=3)
    plt.show()


def bars(
    series: Mapping, groups: Sequence, xlabel: str, ylabel: str, title: str, *, below_zero: str = "less"
) -> None:
    """For each of the `groups` one bar per entry of `series` (a dictionary or a table), told apart by hatch.

    `below_zero` says what a bar below zero means; it stands beside the axis if there is one.
    """
    width = 0.8 / len(series)
    first_bar = -(len(series) - 1) / 2 * width  # from the middle of a group to that of its first bar
    middle = np.arange(len(groups))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.8))
        looks = cycle(BAR_LOOKS)
        for number, (name, values) in enumerate(series.items()):
            shade, hatch = next(looks)
            places = middle + first_bar + number * width
            axes.bar(places, values, width, label=name, color=shade, hatch=hatch, edgecolor="black")
        lowest = min(np.min(values) for _, values in series.items())
        if lowest < 0:
            axes.axhline(0, color="black", linewidth=1)
            ylabel = f"{ylabel}\n(below 0: {below_zero})"
        axes.set_xticks(range(len(groups)), groups)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        figure.legend(loc="outside lower center", ncols=2)
    plt.show()


def ribbon(tokens: Sequence[str], experts, layers: Sequence[int], title: str) -> None:
    """Tokens across, layers down: number and colour of the first expert; `experts` is (tokens, layers).

    Long texts are broken into rows. The tokens are named by their places; below the figure stands the text as
    HTML, because figures have no font for every language. Many layers make a tall figure: pick some.
    """
    experts = np.asarray(experts)
    starts = range(0, len(tokens), TOKENS_PER_ROW)
    height = 0.4 + len(starts) * (0.7 + 0.27 * len(layers))
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(len(starts), figsize=(WIDTH, height), squeeze=False)
        for start, axes in zip(starts, all_axes[:, 0], strict=True):
            row = slice(start, start + TOKENS_PER_ROW)
            _ribbon_row(axes, start, experts[row].T, experts.max())
            axes.set_yticks(range(len(layers)), layers)
            axes.set_ylabel("layer")
        axes.set_xlabel("place of the token")
        figure.suptitle(title)
    plt.show()
    text = " ".join(f"{place} {token!r}" for place, token in enumerate(tokens))
    display({"text/html": numbered_text(tokens), "text/plain": text}, raw=True)


def _ribbon_row(axes, start: int, experts, largest: int) -> None:
    """One row of a ribbon; `experts` is (layers, tokens), `largest` the largest in the ribbon."""
    axes.imshow(experts, cmap="turbo", alpha=0.45, vmin=0, vmax=max(1, largest), aspect="auto")
    for (layer, place), expert in np.ndenumerate(experts):
        axes.text(place, layer, expert, ha="center", va="center", fontsize=10)
    length = experts.shape[1]
    axes.set_xticks(range(length), range(start, start + length))
    axes.set_xlim(-0.5, TOKENS_PER_ROW - 0.5)  # a short last row keeps the width of its cells


def numbered_text(tokens: Sequence[str]) -> str:
    """The tokens in a row as HTML, each behind its place in small figures; nothing in them is HTML."""
    pieces = []
    for place, token in enumerate(tokens):
        text = html.escape(token).replace("\n", "↵").replace(" ", "&nbsp;")
        pieces.append(f"<sub>{place}</sub>&nbsp;<b>{text}</b>")
    return f"<p>{' '.join(pieces)}</p>"
