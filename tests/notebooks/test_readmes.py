"""Both READMEs say the same, in another order: the Chinese one begins with AutoDL."""

import re

import pytest
from compare_editions import sections
from edition_files import ROOT
from edition_prose import FENCE, link_targets, text_differences

PAGES = {language: ROOT / name for language, name in (("en", "README.md"), ("zh", "README.zh.md"))}
#: Headings in the order of the English page; the title stands for what is above the first section.
HEADINGS = {
    "": "",
    "Two commands": "两条命令",
    "On AutoDL, with the real model": "在 AutoDL 上运行真实模型",
    "The notebooks": "全部 notebook",
    "What is in the files": "文件里有什么",
    "Contributing": "参与贡献",
    "Licence": "许可",
}
LANGUAGE_LINES = {"en": "[中文](README.zh.md) | English", "zh": "中文 | [English](README.md)"}


def read(language: str) -> str:
    return PAGES[language].read_text(encoding="utf-8")


def by_heading(page: str) -> dict[str, str]:
    """Text of each section under its heading, what stands above the first one under ""."""
    found = {"": ""}
    for section in sections(page):
        heading = re.match(r"## (.+)", section)
        if heading:
            found[heading[1]] = section
        else:
            found[""] += section + "\n"
    return found


def command(page: str, name: str) -> str:
    """The block between two marks, which .ci/run and the tests read."""
    return re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", page, flags=re.DOTALL)[1]


def test_the_sections_are_the_same():
    assert list(by_heading(read("en"))) == list(HEADINGS)
    assert set(by_heading(read("zh"))) == set(HEADINGS.values())


def test_the_chinese_one_begins_with_autodl():
    assert list(by_heading(read("zh")))[1] == HEADINGS["On AutoDL, with the real model"]


@pytest.mark.parametrize("language", PAGES)
def test_the_first_line_leads_to_the_other_language(language):
    assert read(language).splitlines()[0] == LANGUAGE_LINES[language]


@pytest.mark.parametrize("name", ["first command", "test command"])
def test_both_give_the_same_command(name):
    assert command(read("en"), name) == command(read("zh"), name)
    assert command(read("en"), "test command").splitlines()[1].endswith("pytest")


def section_differences(english: str, chinese: str, heading: str) -> list[str]:
    return text_differences(by_heading(english)[heading], by_heading(chinese)[HEADINGS[heading]], {})


@pytest.mark.parametrize("heading", [heading for heading in HEADINGS if heading != "What is in the files"])
def test_each_section_says_the_same(heading):
    assert section_differences(read("en"), read("zh"), heading) == []


def test_the_chinese_one_leads_to_the_tree_of_the_english_one():
    """The tree of files is made from docstrings, which are English: one tree is enough."""
    section = by_heading(read("zh"))[HEADINGS["What is in the files"]]
    assert link_targets(section, {}) == {"README.md#"}
    assert not FENCE.search(section)


@pytest.mark.parametrize(
    ("heading", "old", "new"),
    [
        ("Two commands", "python -m helpers.start\n", "python -m helpers.start --all\n"),
        ("Two commands", "70 秒", "7 秒"),
        ("On AutoDL, with the real model", "pip install -r requirements.txt\n", ""),
        ("On AutoDL, with the real model", "first_real_run.md", "glossary.md"),
        ("The notebooks", "| 70 | 不限 |", "| 79 | 不限 |"),
        ("The notebooks", "02_vram.ipynb", "03_download.ipynb"),
        ("", "images/05_prompt_box_zh.png", "images/moe_layer_zh.svg"),
        ("Contributing", "accept 04", "accept"),
    ],
)
def test_a_change_of_one_page_is_found(heading, old, new):
    chinese = read("zh")
    assert old in by_heading(chinese)[HEADINGS[heading]]
    assert section_differences(read("en"), chinese.replace(old, new), heading)
