"""Slides: both editions are cut at the same places, an answer follows its question, nothing is cut off."""

import shutil

import build_slides
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

SOURCES = [
    source
    for number in build_slides.NOTEBOOKS
    for source in sorted((build_slides.ROOT / "notebooks").glob(f"*/{number}_*.ipynb"))
]


def name_of(source):
    return f"{source.parent.name}-{source.stem}"


def placed(cells, twins=None):
    """Where each piece of some cells goes, and its text or code."""
    shown = build_slides.slide_cells(cells, twins or cells)
    return [(cell.metadata["slideshow"]["slide_type"], cell.source) for cell in shown]


def printing(source, *texts):
    return new_code_cell(source, outputs=[new_output("stream", text=text) for text in texts])


def test_the_answer_appears_with_the_next_key():
    cells = [
        new_markdown_cell("## 1. One\n\n*Predict:* how many?"),
        printing("1", "1"),
        new_markdown_cell("One."),
    ]
    assert placed(cells) == [
        ("slide", "## 1. One\n\n*Predict:* how many?"),
        ("-", "1"),
        ("fragment", ""),
        ("-", "One."),
    ]


def test_an_answer_and_the_next_question_are_two_slides():
    cells = [
        new_markdown_cell("**先预测，再运行**：几个？"),
        printing("1", "1"),
        new_markdown_cell("一个。\n\n**先预测，再运行**：现在呢？"),
        printing("2", "2"),
    ]
    assert [place for place, _text in placed(cells)] == [
        "subslide",
        "-",
        "fragment",
        "-",
        "subslide",
        "-",
        "fragment",
    ]


def test_what_is_printed_moves_to_the_next_slide_with_its_text():
    cells = [new_markdown_cell("# Long"), printing("x\n" * 24, "1\n2"), new_markdown_cell("Two.")]
    assert [place for place, _text in placed(cells)] == ["slide", "-", "subslide", "-"]


def test_the_longer_edition_decides():
    short = [new_markdown_cell("# One"), new_markdown_cell("Text"), new_markdown_cell("More")]
    long = [new_markdown_cell("# 一"), new_markdown_cell("字" * 900), new_markdown_cell("更多")]
    assert [place for place, _text in placed(short)] == ["slide", "-", "-"]
    assert [place for place, _text in placed(short, long)] == ["slide", "-", "subslide"]


def test_exercises_bars_and_inner_links_are_left_out():
    bar = new_output("display_data", {"text/plain": "search:   0%|          | 0/2 [00:00<?, ?it/s]"})
    exercise = new_code_cell("check(None)", metadata={"tags": ["exercise"]})
    cells = [new_markdown_cell("A [token](glossary.md#token), [there](https://x.org)."), exercise]
    cells.append(new_code_cell("search()", outputs=[bar]))
    assert placed(cells) == [("subslide", "A token, [there](https://x.org)."), ("-", "search()")]


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_both_editions_are_cut_at_the_same_places(source):
    own, other = (
        nbformat.read(path, as_version=4).cells for path in (source, build_slides.in_other_edition(source))
    )
    shown = build_slides.slide_cells(own, other)
    twins = build_slides.slide_cells(other, own)
    assert [cell.metadata["slideshow"] for cell in shown] == [cell.metadata["slideshow"] for cell in twins]


def test_a_slide_that_is_too_high_or_too_wide_is_named():
    slides = [("fits", 720, 0), ("high", 721, 0), ("wide", 100, 5)]
    assert build_slides.cut_off(slides) == ["high", "wide"]


# In a browser: the page layout of reveal.js comes from npm.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    try:
        build_slides.vendor(folder)
    except SystemExit as error:
        pytest.skip(str(error))
    shutil.copytree(build_slides.ROOT / "images", folder / "images")
    return folder


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_no_slide_is_cut_off(folder, chromium, source):
    page = folder / f"{name_of(source)}.html"
    page.write_text(build_slides.slides_of(source), encoding="utf-8")
    tab = chromium.new_page(viewport={"width": 1280, "height": 720})
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    slides = build_slides.measured(tab, page)
    tab.close()
    assert len(slides) > 30
    assert build_slides.cut_off(slides) == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
