"""Columns, lines and lists of a terminal in both languages."""

import textwrap

import pytest

from helpers.language import listed
from helpers.terminal import all_of, figures_of, in_a_row, padded, places, right_aligned, steps, wrapped

CHINESE = "只用内存可以运行，但较慢（每个词元约 0.53 s）：bfloat16 权重 26.7 GiB。请运行 pip install torch。"


def test_a_chinese_character_takes_two_places():
    assert places("GPU 显存（24 GB）") == 4 + 4 + 2 + 5 + 2
    assert places(padded("显存", 9)) == places(right_aligned("显存", 9)) == 9
    assert padded("too long for it", 4) == "too long for it"


@pytest.mark.parametrize("width", [20, 33, 60, 100])
def test_lines_keep_to_the_width_and_lose_nothing(width):
    lines = wrapped(CHINESE, width, "-> ", "   ").splitlines()
    assert all(places(line) <= width for line in lines)
    said = "".join(line[3:] for line in lines)
    assert said.replace(" ", "") == CHINESE.replace(" ", "")
    for line in lines:
        assert line.strip()[0] not in "，。：；、）”"
        assert line[-1] not in "（“"


def test_an_address_stays_whole():
    text = "想用的话：pip install https://example.org/a-very-long-address-of-a-wheel/flash_attn-2.8.3.whl"
    assert text.rpartition(" ")[2] in wrapped(text, 30, "", "  ").splitlines()[-1]


def test_english_is_wrapped_as_ever():
    text = "It works in RAM only, slowly (about 0.53 s per token): 26.7 GiB in bfloat16 -- a long-ish line."
    expected = textwrap.fill(
        text,
        40,
        initial_indent="-> ",
        subsequent_indent="   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    assert wrapped(text, 40, "-> ", "   ") == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ("a, b", "a, b", "A and B and C", "One. Two.", "one. two")),
        ("zh", ("a，b", "a、b", "A 和 B 和 C", "One.Two.", "one。two")),
    ],
)
def test_lists(language, expected, monkeypatch):
    monkeypatch.setenv("COURSE_LANG", language)
    said = (
        figures_of(["a", "b"]),
        listed(["a", "b"]),
        all_of(["A", "B", "C"]),
        in_a_row("One.", "", "Two."),
        steps("one", "", "two"),
    )
    assert said == expected
