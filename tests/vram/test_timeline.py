"""The memory over time agrees with the forecast, and the figures and the calculator show what it says."""

import re

import matplotlib
import pytest

from helpers import GIB
from helpers.vram import REAL_CONFIG, forecast, load_config, memory_over_time
from helpers.vram.calculator import Calculator
from helpers.vram.figures import draw_bars, draw_over_time
from helpers.vram.timeline import decoding_steps

TWO_CARDS = ["24GiB", "24GiB"]
REQUEST = {"batch": 2, "prompt": 4096, "new": 64}


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("agg")


@pytest.mark.parametrize("gpu", [0, 1])
def test_peaks_are_those_of_the_forecast(gpu):
    config = load_config(REAL_CONFIG)
    over_time = memory_over_time(config, gpus=TWO_CARDS, gpu=gpu, **REQUEST)
    row = forecast(config, gpus=TWO_CARDS, **REQUEST)["gpus"][gpu]
    assert max(over_time["prefill"]) == row["prefill"]
    # Here the small inputs of the step before are still there; the forecast makes no such step.
    assert max(over_time["decode"]) == pytest.approx(row["decode"], abs=4096)
    assert over_time["loading"][-1] == row["weights"]
    # The forecast assumes that the largest tensor is fused when all the rest is there.
    assert row["weights"] <= max(over_time["loading"]) <= row["loading"]


@pytest.mark.parametrize("new", [1, 2, 3, 512])
def test_the_steps_end_with_the_longest_cache(new):
    steps = decoding_steps(100, new)
    assert steps == sorted(set(steps)) and len(steps) <= 6
    if new > 1:
        assert (steps[0], steps[-1]) == (100, 100 + new - 2)
    else:
        assert steps == []


def test_nothing_is_clipped():
    """Also where a request needs more than a card has."""
    result = forecast("real", gpus=TWO_CARDS, prompt=8192, batch=8)
    axes = draw_bars(result)
    top = max(bar.get_y() + bar.get_height() for bar in axes.patches)
    assert top > 24 and axes.get_ylim()[1] > top
    row = result["gpus"][0]
    assert top == pytest.approx(row["needs"] / GIB)


def test_only_the_worst_phase_carries_the_overhead():
    result = forecast("real", gpus=TWO_CARDS, prompt=8192)
    axes = draw_bars(result)
    row = result["gpus"][0]
    loading = max(bar.get_y() + bar.get_height() for bar in axes.patches if abs(bar.get_x() + 0.4) < 0.01)
    assert loading == pytest.approx((row["loading"] + row["context"]) / GIB)


def test_phases_stand_side_by_side():
    axes = draw_over_time({"prefill": [1, 2 * GIB], "decode": [GIB]}, card=24 * GIB)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["prefill", "decode"]
    assert axes.get_ylim()[1] > 24


def view_box(calculator) -> str:
    """The size of the calculator's picture, as its SVG says it."""
    return re.search(r'viewBox="([^"]+)"', bytes(calculator.picture.value).decode())[1]


def test_the_calculator_says_in_words_what_it_draws():
    calculator = Calculator(load_config(REAL_CONFIG), gpus=TWO_CARDS, batch=1, prompt=8192, new=512)
    assert "It fits" in calculator.words.value
    size = view_box(calculator)
    calculator.prompt.value = 40960
    assert "was made for 32,768 tokens" in calculator.words.value
    calculator.attention.value = "eager"
    assert "Does not fit" in calculator.words.value
    assert view_box(calculator) == size, "the picture does not jump"
