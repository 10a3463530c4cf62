"""Figures of notebook 06: they draw plain arrays and tables and know no model.

Readable in grey and on a phone: shades from light to dark, numbers in cells, hatches, line styles.
Each function shows its figure.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

WIDTH, TOKENS_PER_ROW = 6.4, 12  # inches; tokens in one row of a ribbon
STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"figure.constrained_layout.use": True, "legend.frameon": False, "legend.fontsize": 10}


def heatmap(values, rows: Sequence, xlabel: str, ylabel: str, title: str, *, scale: str) -> None:
    """A matrix (rows, columns) as shades, dark for large; `scale` says what the shades measure."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, min(6, 1.6 + 0.35 * len(rows))))
        image = axes.imshow(np.asarray(values), cmap="Greys", vmin=0, aspect="auto")
        step = 1 + len(rows) // 25
        axes.set_yticks(range(0, len(rows), step), rows[::step])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        figure.colorbar(image, label=scale)
    plt.show()


def lines(series: Mapping, x: Sequence, xlabel: str, ylabel: str, title: str) -> None:
    """One line per entry of `series`, told apart by marker and line style."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
        for (name, values), look in zip(
            series.items(), cycle(["o-", "s--", "^:", "D-.", "x-", "v--"]), strict=False
        ):
            axes.plot(x, values, look, label=name, clip_on=False)  # whole markers also at the edge
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=3)
    plt.show()


def bars(series: Mapping, groups: Sequence, xlabel: str, ylabel: str, title: str) -> None:
    """For each of the `groups` one bar per entry of `series`, told apart by hatch."""
    looks = cycle([("0.35", ""), ("0.85", "//"), ("0.6", ".."), ("1", "xx")])
    width = 0.8 / len(series)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
        for i, ((name, values), (shade, hatch)) in enumerate(zip(series.items(), looks, strict=False)):
            places = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
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
    with plt.rc_context(STYLE):
        size = (WIDTH, 0.4 + len(starts) * (1 + 0.28 * len(layers)))
        figure, all_axes = plt.subplots(len(starts), figsize=size, squeeze=False)
        for start, axes in zip(starts, all_axes[:, 0], strict=True):
            part = experts[start : start + TOKENS_PER_ROW].T
            axes.imshow(part, cmap="turbo", alpha=0.45, vmin=0, vmax=max(1, experts.max()), aspect="auto")
            for (layer, place), expert in np.ndenumerate(part):
                axes.text(place, layer, expert, ha="center", va="center", fontsize=10)
            names = [_axis_label(tokens[i], i) for i in range(start, start + part.shape[1])]
            axes.set_xticks(range(len(names)), names, rotation=60, fontsize=10)
            axes.set_xlim(-0.5, TOKENS_PER_ROW - 0.5)
            axes.set_yticks(range(len(layers)), layers)
            axes.set_ylabel("layer")
        figure.suptitle(title)
    plt.show()


def _axis_label(token: str, place: int) -> str:
    text = token.replace("\n", "\\n").replace("$", r"\$")
    return (text.strip() or "space") if text.isascii() and text.isprintable() else f"#{place}"


class Explorer(widgets.VBox):
    """Type a text, pick a layer and a token: shows the experts and their weights.

    `record(text)` gives the table of `Routing.to_frame` for it. Texts are shown as text, never as HTML.
    Where no kernel runs, a note and the first token's table stand in its place.
    """

    def __init__(self, record: Callable[[str], pd.DataFrame], text: str):
        self._record, self._table = record, pd.DataFrame()
        wide = widgets.Layout(width="98%", max_width="40em")
        self.text = widgets.Text(text, description="Text", continuous_update=False, layout=wide)
        self.layer = widgets.Dropdown(options=[0], description="Layer")
        self.token = widgets.SelectionSlider(options=[("", 0)], description="Token", layout=wide)
        self.view = widgets.HTML()
        super().__init__([self.text, self.layer, self.token, self.view])
        self._read()
        self.text.observe(self._read, "value")
        self.layer.observe(self._show, "value")
        self.token.observe(self._show, "value")

    def _read(self, change=None) -> None:
        try:
            self._table = self._record(self.text.value)
        except Exception as error:  # a callback has no other place for it
            self.view.value = html.escape(f"This text cannot be shown ({error}): type another one.")
            return
        tokens = self._table.drop_duplicates("position")
        names = [f"{place} {text!r}" for place, text in zip(tokens["position"], tokens["token"], strict=True)]
        self.layer.options = sorted(set(self._table["layer"]))
        self.token.options = list(zip(names, tokens["position"], strict=True))
        self._show()

    def _show(self, change=None) -> None:
        chosen = (self._table["layer"] == self.layer.value) & (self._table["position"] == self.token.value)
        self.view.value = _table_html(self._table[chosen])

    def _repr_mimebundle_(self, **options):
        data = super()._repr_mimebundle_(**options)
        note = "<p>Routing explorer: run this cell to use it. Its first view:</p>"
        return {**data, "text/plain": "Routing explorer", "text/html": note + self.view.value}


def _table_html(rows: pd.DataFrame) -> str:
    lines = [f"<b>Token {html.escape(repr(rows['token'].iloc[0]))}, layer {rows['layer'].iloc[0]}</b>"]
    for expert, weight in zip(rows["expert"], rows["weight"], strict=True):
        style = f"display:inline-block; height:0.8em; width:{20 * weight:.2f}em; background:gray"
        lines.append(f'expert {expert}: {weight:.3f} <span style="{style}"></span>')
    lines.append(f"sum of the weights: {rows['weight'].sum():.3f}")
    if "shared_gate" in rows:
        lines.append(f"shared expert's gate: {rows['shared_gate'].iloc[0]:.3f}")
    return "<br>".join(lines)
