"""The figures are drawn without a display and without a warning."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
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


@pytest.mark.parametrize("count", [1, 12, 13, 50])
def test_ribbon(tmp_path, count):
    tokens = ["Hi", " there", "\n", "你", " ", "$x$", "<b>", "_^", "\ufffd", "\\"] * 5
    experts = np.arange(count * 4).reshape(count, 4) % 16
    figure = draw(figures.ribbon, tmp_path, tokens[:count], experts, range(4), "A title")
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sorted(shown) == sorted(str(number) for number in experts.ravel())
    labels = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels()]
    assert labels[:4] == ["Hi", "there", "\\n", "#3"][:count]
