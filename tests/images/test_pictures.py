"""The pictures: drawn again they are the same, in both languages, and their labels have room."""

import importlib
import json
import re
import sys
from itertools import combinations
from pathlib import Path

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "images"
sys.path.insert(0, str(IMAGES))
import draw_routing_heatmap as heatmap  # noqa: E402 - the scripts of images/ are no package
from drawing import FONTS, Picture, file_name  # noqa: E402

SCRIPTS = sorted(script.stem for script in IMAGES.glob("draw_*.py"))
PICTURES = sorted(IMAGES.glob("*.svg"))
WIDE = "'DejaVu Sans', Verdana, sans-serif"  # for who has no other font


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_drawn_again_it_is_the_same(script, language):
    module = importlib.import_module(script)
    stored = IMAGES / file_name(script, language)
    assert module.draw(language).svg() == stored.read_text(encoding="utf-8"), f"python images/{script}.py"


def test_every_picture_has_a_script():
    drawn = {file_name(script, language) for script in SCRIPTS for language in ("en", "zh")}
    assert {picture.name for picture in PICTURES} == drawn


def numbers(picture: str) -> list[str]:
    """The numbers in the labels of a picture."""
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    return sorted(re.findall(r"\d[\d,.]*\d|\d", " ".join(labels)))


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_languages_show_the_same_numbers(script):
    files = [IMAGES / file_name(script, language) for language in ("en", "zh")]
    english, chinese = [file.read_text(encoding="utf-8") for file in files]
    assert numbers(english) == numbers(chinese)
    assert re.search(r"<title>[^<]*[一-鿿]", chinese) and not re.search(r"[一-鿿]", english)


def test_the_model_still_chooses_so():
    """Processors round differently, so a few choices may differ from the stored ones."""
    stored = heatmap.shares(json.loads(heatmap.FILE.read_text(encoding="utf-8")))
    fresh = heatmap.shares(heatmap.record())
    for expert, of_kinds in stored.items():
        assert fresh[expert] == pytest.approx(of_kinds, abs=3)


NUMBER_WORDS = {
    "en": ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"],
    "zh": ["零", "一", "两", "三", "四", "五", "六", "七", "八"],
}
HEATMAP_TEXTS = {
    "en": (
        "{} experts work mostly for English, {} for Chinese, {} for code, {} for arithmetic; expert {}",
        ("README.md", "notebooks/_site/index.en.md", "notebooks/en/06_routing.ipynb"),
    ),
    "zh": (
        "{}个专家主要处理英文，{}个处理中文，{}个处理代码，{}个处理算术；专家 {} 主要兼顾",
        ("README.zh.md", "notebooks/_site/index.zh.md", "notebooks/zh/06_routing.ipynb"),
    ),
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_who_hears_the_heatmap_hears_its_numbers(language):
    """The alternative text says how many experts do most of their work, over 60 %, for each kind."""
    stored = heatmap.shares(json.loads(heatmap.FILE.read_text(encoding="utf-8")))
    busy_with = dict.fromkeys(("english", "chinese", "code", "arithmetic"), 0)
    divided = []
    for expert, of_kinds in stored.items():
        kind = max(of_kinds, key=of_kinds.get)
        if of_kinds[kind] > 60:
            busy_with[kind] += 1
        else:
            divided.append(expert)
    (only,) = divided
    sentence, files = HEATMAP_TEXTS[language]
    counts = [NUMBER_WORDS[language][count] for count in busy_with.values()]
    wanted = sentence.format(*counts, only)
    for file in files:
        text = (IMAGES.parent / file).read_text(encoding="utf-8").replace('\\n",\n    "', " ")
        assert wanted.lower() in re.sub(r"\s+", " ", text).lower(), file


# In a browser

BOXES = """
() => [...document.querySelectorAll("text")].map(text => {
  const box = text.getBoundingClientRect();
  return [text.textContent, box.left, box.top + box.height * 0.15, box.right, box.bottom - box.height * 0.15];
})
"""


@pytest.fixture(scope="module")
def faults(chromium):
    """A function: which labels of a picture are cut off, and which cover each other."""
    page = chromium.new_page(viewport={"width": 800, "height": 900})

    def look(svg: str) -> list[str]:
        page.set_content(f'<body style="margin: 0">{svg}</body>')
        picture = page.locator("svg").bounding_box()
        labels = page.evaluate(BOXES)
        found = []
        for text, left, top, right, bottom in labels:
            inside = left >= 0 and top >= 0 and right <= picture["width"] and bottom <= picture["height"]
            if not inside:
                found.append(f"{text}: cut off")
        for one, other in combinations(labels, 2):
            if one[1] < other[3] and other[1] < one[3] and one[2] < other[4] and other[2] < one[4]:
                found.append(f"{one[0]} / {other[0]}")
        return found

    yield look
    page.close()


@pytest.mark.parametrize("wide", [False, True], ids=["first font", "wide font"])
@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_labels_have_room(faults, picture, wide):
    svg = picture.read_text(encoding="utf-8")
    if wide:
        svg = svg.replace(FONTS["en"], WIDE)
    assert faults(svg) == []


def test_labels_without_room_are_found(faults):
    picture = Picture(100, "en", "a sample", width=200)
    picture.text(10, 50, "a label")
    picture.text(40, 52, "another one")
    picture.text(150, 80, "too long for its place")
    assert faults(picture.svg()) == ["too long for its place: cut off", "a label / another one"]
