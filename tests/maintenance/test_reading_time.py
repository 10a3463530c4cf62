"""The minutes that the course states are those that its words, lines and exercises need."""

import json
import re

import build_site
import pytest
import reading_time
from reading_time import CLASS_FACTOR, EDITIONS, EXERCISE_MINUTES, ROOT, Minutes

STEP = 5  # minutes are stated in fives, and so a stated number may be wrong by as much
READMES = {"en": "README.md", "zh": "README.zh.md"}
NUMBERS = sorted(path.name[:2] for path in reading_time.notebooks("en"))
README_ROW = re.compile(r"^\| \[(\d\d) .*?\| (\d+) \|", flags=re.M)
TIME_LINE = re.compile(r"^- \*\*(?:Time|时间)\*\*.*?(\d+) (?:minutes|分钟)\D*?(\d+)", flags=re.M)
PLAN_ROW = re.compile(r"^\| (\d+) \| \[(\d\d)\]\([^)]*\)(.*?) \|", flags=re.M)
EXERCISE = re.compile(r"(?:exercise|练习) \d+")
RANGE = re.compile(r"(\d+)(?: to | 节到第 )(\d+)")


def agree(stated: int, minutes: float) -> bool:
    return stated % STEP == 0 and abs(stated - minutes) <= STEP


def slower_edition(number: str) -> Minutes:
    """README states one number for both editions: that of the edition which takes longer."""
    chapters = []
    for edition in EDITIONS:
        path = next(path for path in reading_time.notebooks(edition) if path.name.startswith(number))
        chapters.append(reading_time.chapter(path))
    return max(chapters, key=lambda minutes: minutes.total)


def of_readme(edition: str) -> dict[str, int]:
    text = (ROOT / READMES[edition]).read_text(encoding="utf-8")
    return {number: int(minutes) for number, minutes in README_ROW.findall(text)}


def guide(edition: str) -> str:
    return (ROOT / "notebooks" / edition / "teachers_guide.md").read_text(encoding="utf-8")


def named_sections(text: str) -> set[int]:
    """The sections in a row of a plan, such as "sections 1 to 3, 8, and exercise 4": 1, 2, 3 and 8."""
    text = EXERCISE.sub("", text)
    sections = {int(number) for number in re.findall(r"\d+", text)}
    for first, last in RANGE.findall(text):
        sections.update(range(int(first), int(last)))
    return sections


def class_minutes(number: str, text: str) -> float:
    """What a class needs for the sections and exercises in a row of a plan."""
    needed = []
    for edition in EDITIONS:
        path = next(path for path in reading_time.notebooks(edition) if path.name.startswith(number))
        found = reading_time.sections(path)
        needed.append(sum(found[section].total for section in named_sections(text)))
    exercises = len(EXERCISE.findall(text)) * EXERCISE_MINUTES
    return CLASS_FACTOR * (max(needed) + exercises)


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("number", NUMBERS)
def test_readme_and_start_page_state_the_minutes(edition, number):
    stated = of_readme(edition)[number]
    minutes = slower_edition(number).total
    assert agree(stated, minutes), f"{stated} is stated, {minutes:.0f} are needed"
    on_the_site = build_site.chapters(edition)
    assert re.search(rf"^\| \[{number} .*\| {stated} \|", on_the_site, flags=re.M)


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize("number", NUMBERS)
def test_the_top_of_a_notebook_states_the_minutes(edition, number):
    path = next(path for path in reading_time.notebooks(edition) if path.name.startswith(number))
    top = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    whole, exercises = TIME_LINE.search(top).groups()
    assert int(whole) == of_readme(edition)[number]
    assert agree(int(exercises), slower_edition(number).exercises)


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_plan_gives_a_class_the_minutes_that_it_needs(edition):
    rows = PLAN_ROW.findall(guide(edition))
    assert len(rows) == 12
    for stated, number, text in rows:
        minutes = class_minutes(number, text)
        assert agree(int(stated), minutes), f"{number}{text}: {stated} is stated, {minutes:.0f} are needed"


@pytest.mark.parametrize("edition", EDITIONS)
def test_the_guide_states_the_minutes_of_notebook_07(edition):
    stated = re.search(r"its (\d+) minutes|它的 (\d+) 分钟", guide(edition))
    assert int(stated[1] or stated[2]) == of_readme(edition)["07"]


def test_sections_of_a_row_are_understood():
    assert named_sections(", sections 1 to 3, 8, and exercise 4") == {1, 2, 3, 8}
    assert named_sections("，第 1 节到第 3 节、第 8 节，以及练习 4") == {1, 2, 3, 8}


def test_what_is_read_counts_and_what_is_folded_does_not(tmp_path):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["## 1. Title\n", "word " * 399]},
        {"cell_type": "code", "metadata": {}, "source": ["x = 1\n", "\n"] * 12, "outputs": []},
        {"cell_type": "code", "metadata": {"tags": ["exercise"]}, "source": ["y = ..."], "outputs": []},
        {"cell_type": "code", "metadata": {"tags": ["solution"]}, "source": ["y = 1\n"] * 99, "outputs": []},
    ]
    path = tmp_path / "01_try.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    found = reading_time.sections(path)[1]
    assert found.text == pytest.approx(401 / reading_time.WORDS_A_MINUTE)
    assert found.code == pytest.approx(12 * reading_time.CODE_LINE_SECONDS / 60)
    assert found.exercises == EXERCISE_MINUTES
    assert reading_time.text_minutes("每个词元都要" * 50) == pytest.approx(1)


def test_a_wrong_number_is_found():
    assert agree(70, 67.4)
    assert not agree(45, 67.4)
    assert not agree(67, 67.4)
