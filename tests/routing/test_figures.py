"""The figures are drawn without a display and without a warning."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.routing import figures

LABELS = ("across", "up", "A title")


@pytest.fixture(autouse=True)
def no_display_no_warnings_no_open_figures(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


def draw(plot, path, *arguments, **options):
    """Draw with one of the functions, check what holds for all of them, and return the figure."""
    plot(*arguments, **options)
    figure = plt.gcf()
    figure.savefig(path / "figure.png")
    assert figure.get_size_inches()[0] <= 8
    for axes in figure.axes:
        texts = [axes.title, *axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
        for text in texts:
            assert text.get_fontsize() >= 9
    return figure


@pytest.mark.parametrize(("layers", "experts"), [(1, 2), (4, 16), (24, 60), (60, 60)])
def test_heatmap(tmp_path, layers, experts):
    values = np.arange(layers * experts).reshape(layers, experts)
    figure = draw(figures.heatmap, tmp_path, values, range(layers), *LABELS, scale="share")
    assert figure.axes[0].get_title() == "A title"


SERIES = {name: [1.0, 2.0, 3.0] for name in ("one", "two", "three", "four", "five", "six")}


def test_lines(tmp_path):
    figure = draw(figures.lines, tmp_path, SERIES, [1, 10, 100], *LABELS)
    assert len(figure.axes[0].get_lines()) == 6


def test_bars(tmp_path):
    figure = draw(figures.bars, tmp_path, SERIES, ["a", "b", "c"], *LABELS)
    assert len(figure.axes[0].patches) == 18


def test_lines_over_doubling_numbers(tmp_path):
    figure = draw(figures.lines, tmp_path, {"one": [1, 2, 3]}, [1, 2, 4], *LABELS, doubling=True)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["1", "2", "4"]


def test_bars_below_zero_are_explained(tmp_path):
    series = {"one": [1.0, -0.5], "two": [0.5, 0.2]}
    options = {"below_zero": "better without it"}
    figure = draw(figures.bars, tmp_path, series, ["a", "b"], *LABELS, **options)
    axes = figure.axes[0]
    assert axes.get_ylabel() == "up\n(below 0: better without it)"
    assert len(axes.get_lines()) == 1  # at zero
    figure = draw(figures.bars, tmp_path, {"one": [1.0, 0.5]}, ["a", "b"], *LABELS, **options)
    assert figure.axes[0].get_ylabel() == "up"


@pytest.mark.parametrize("plot", [figures.lines, figures.bars])
def test_a_table_has_a_series_in_each_column(tmp_path, plot):
    table = pd.DataFrame({"one": [1.0, 2.0], "two": [3.0, 4.0]})
    figure = draw(plot, tmp_path, table, [0, 1], *LABELS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


@pytest.mark.parametrize("plot", [figures.lines, figures.bars])
def test_the_legend_lies_beside_the_data(tmp_path, plot):
    figure = draw(plot, tmp_path, SERIES, [0, 1, 2], *LABELS)
    data = figure.axes[0].get_window_extent()
    legend = figure.legends[0].get_window_extent()
    assert not data.overlaps(legend)


@pytest.mark.parametrize("size", [(4, 16), (24, 60)])
def test_nothing_is_clipped(tmp_path, size):
    """Everything that is drawn lies inside the picture, at the size of the toy and of the real model."""
    layers, experts = size
    values = np.random.default_rng(0).random(size)
    names = ("expert 1", "expert 2", "their sum", "shared gate")
    long_names = dict.fromkeys(names, values[:, 0])
    drawn = [
        draw(figures.heatmap, tmp_path, values, range(layers), *LABELS, scale="1: even share"),
        draw(figures.lines, tmp_path, long_names, range(layers), *LABELS),
        draw(figures.bars, tmp_path, long_names, range(layers), *LABELS, below_zero="better"),
        draw(figures.ribbon, tmp_path, ["词"] * 24, np.full((24, 6), experts), range(6), "A title"),
    ]
    for figure in drawn:
        picture = figure.bbox
        inside = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches
        assert inside.x0 >= 0
        assert inside.y0 >= 0
        assert inside.x1 <= picture.width / figure.dpi
        assert inside.y1 <= picture.height / figure.dpi


@pytest.mark.parametrize("count", [1, 12, 13, 50])
def test_ribbon(tmp_path, count, monkeypatch):
    below = []
    monkeypatch.setattr(figures, "display", lambda data, raw: below.append(data))
    tokens = ["Hi", " there", "\n", "你", " ", "$x$", "<b>", "_^", "\ufffd", "\\"] * 5
    experts = np.arange(count * 4).reshape(count, 4) % 16
    figure = draw(figures.ribbon, tmp_path, tokens[:count], experts, range(4), "A title")
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sorted(shown) == sorted(str(number) for number in experts.ravel())
    labels = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels()]
    assert labels == [str(place) for place in range(count)]
    assert below[0]["text/plain"].startswith("0 'Hi'")


def test_the_text_below_a_ribbon():
    """Places and tokens, in any language; nothing in a token is taken for HTML."""
    text = figures.numbered_text(["Hi", " 词元", "\n", "<b>"])
    assert "<sub>0</sub>&nbsp;<b>Hi</b>" in text
    assert "<sub>1</sub>&nbsp;<b>&nbsp;词元</b>" in text
    assert "<b>↵</b>" in text
    assert "<b>&lt;b&gt;</b>" in text
