"""The figures are drawn without a display and without a warning; the explorer follows its controls."""

import warnings

import matplotlib

matplotlib.use("Agg")

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
        for text in [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts, axes.title]:
            assert text.get_fontsize() >= 9
    return figure


@pytest.mark.parametrize(("layers", "experts"), [(1, 2), (4, 16), (24, 60), (60, 60)])
def test_heatmap(tmp_path, layers, experts):
    values = np.arange(layers * experts).reshape(layers, experts)
    figure = draw(figures.heatmap, tmp_path, values, range(layers), *LABELS, scale="share")
    assert figure.axes[0].get_title() == "A title"


def test_lines_and_bars(tmp_path):
    series = {name: [1.0, 2.0, 3.0] for name in ("one", "two", "three", "four", "five", "six")}
    figure = draw(figures.lines, tmp_path, series, [1, 10, 100], *LABELS)
    assert len(figure.axes[0].get_lines()) == 6
    figure = draw(figures.bars, tmp_path, series, ["a", "b", "c"], *LABELS)
    assert len(figure.axes[0].patches) == 18


@pytest.mark.parametrize("count", [1, 12, 13, 50])
def test_ribbon(tmp_path, count):
    tokens = ["Hi", " there", "\n", "你", " ", "$x$", "<b>", "_^", "\ufffd", "\\"] * 5
    experts = np.arange(count * 4).reshape(count, 4) % 16
    figure = draw(figures.ribbon, tmp_path, tokens[:count], experts, range(4), "A title")
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sorted(shown) == sorted(str(n) for n in experts.ravel())
    labels = [text.get_text() for axes in figure.axes for text in axes.get_xticklabels()]
    assert labels[:4] == ["Hi", "there", "\\n", "#3"][:count]


def record(text):
    """A table as `Routing.to_frame` gives it: one token per letter, two layers, two experts."""
    if not text:
        raise ValueError("no <b>text</b>")
    index = np.indices((len(text), 2, 2)).reshape(3, -1)
    return pd.DataFrame(
        {
            "position": index[0],
            "token": [text[i] for i in index[0]],
            "layer": index[1],
            "expert": index.sum(0),
            "weight": 0.5 / (1 + index[2]),
            "shared_gate": 0.25,
        }
    )


def test_explorer():
    explorer = figures.Explorer(record, "a<")
    assert "expert 0: 0.500" in explorer.view.value and "expert 1: 0.250" in explorer.view.value
    assert "sum of the weights: 0.750" in explorer.view.value and "gate: 0.250" in explorer.view.value
    explorer.layer.value = 1
    assert "expert 1: 0.500" in explorer.view.value
    explorer.token.value = 1
    assert "&lt;" in explorer.view.value and "<'" not in explorer.view.value
    explorer.text.value = "other"
    assert explorer.token.options[0][0] == "0 'o'" and explorer.layer.value == 1
    explorer.text.value = ""
    assert "no &lt;b&gt;text&lt;/b&gt;" in explorer.view.value
    explorer.text.value = "again"
    assert "expert" in explorer.view.value


def test_explorer_without_a_kernel():
    bundle = figures.Explorer(record, "ab")._repr_mimebundle_()
    assert bundle["text/plain"] == "Routing explorer"
    assert "run this cell" in bundle["text/html"] and "expert 0" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
