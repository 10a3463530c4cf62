"""The lock of the two editions is up to date, and says which of them lags behind."""

import json

import editions
import pytest

TRANSLATED = editions.translated(editions.documents())


@pytest.mark.parametrize("document", TRANSLATED, ids=[document.name for document in TRANSLATED])
def test_no_edition_lags_behind(document):
    lines = editions.lagging(document)
    assert not lines, "bring the other edition along, then: python tests/maintenance/editions.py accept"


def test_no_lock_is_left_over():
    names = {document.name for document in TRANSLATED}
    assert {file.stem for file in editions.LOCKS.glob("*.json")} <= names


def write_notebook(path, **cells: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [{"id": name, "source": [source]} for name, source in cells.items()]
    path.write_text(json.dumps({"cells": entries}), encoding="utf-8")


@pytest.fixture
def course(tmp_path):
    """A course of one notebook and one page, both accepted: (root, the two documents)."""
    for edition in ("en", "zh"):
        folder = tmp_path / "notebooks" / edition
        write_notebook(folder / "01_a.ipynb", first=f"first {edition}", second=f"second {edition}")
        (folder / "page.md").write_text(f"# Page {edition}\n\n## 1. Rent\n\ntext\n", encoding="utf-8")
    found = editions.documents(tmp_path)
    for document in found:
        editions.accept(document, tmp_path / "locks")
    return tmp_path, found


def all_lines(course) -> list[str]:
    root, found = course
    return [line for document in found for line in editions.lagging(document, root / "locks")]


def test_what_was_accepted_does_not_lag(course):
    assert [document.name for document in course[1]] == ["01_a", "page"]
    assert all_lines(course) == []


def test_a_cell_that_was_never_accepted_is_new(course):
    (course[0] / "locks" / "01_a.json").unlink()
    assert [line.split(": ", 1)[1] for line in all_lines(course)] == [
        "is new: read both editions, then accept"
    ] * 2


@pytest.mark.parametrize(
    ("english", "chinese", "todo"),
    [
        ("changed", "second zh", "the Chinese edition lags behind"),
        ("second en", "changed", "the English edition lags behind"),
        ("changed", "changed", "was changed in both editions: read them, then accept"),
    ],
)
def test_a_changed_cell_lags(course, english, chinese, todo):
    write_notebook(course[0] / "notebooks/en/01_a.ipynb", first="first en", second=english)
    write_notebook(course[0] / "notebooks/zh/01_a.ipynb", first="first zh", second=chinese)
    assert all_lines(course) == [f"01_a second: {todo}"]
    assert editions.accept(course[1][0], course[0] / "locks") == 1
    assert all_lines(course) == []


def test_a_cell_of_one_edition_is_named(course):
    write_notebook(course[0] / "notebooks/zh/01_a.ipynb", first="first zh", third="third zh")
    assert all_lines(course) == [
        "01_a second: is in the English edition only",
        "01_a third: is in the Chinese edition only",
    ]


def test_a_cell_that_is_gone_from_both_is_named(course):
    for edition in ("en", "zh"):
        write_notebook(course[0] / f"notebooks/{edition}/01_a.ipynb", first=f"first {edition}")
    assert all_lines(course) == ["01_a second: is gone from both editions: accept"]


def test_a_changed_section_of_a_page_lags(course):
    page = course[0] / "notebooks" / "en" / "page.md"
    page.write_text(page.read_text(encoding="utf-8").replace("text", "another text"), encoding="utf-8")
    assert all_lines(course) == ["page section 2: the Chinese edition lags behind"]


def test_the_tree_of_readme_does_not_count(tmp_path):
    page = tmp_path / "README.md"
    found = []
    for tree in ("one file", "two files"):
        page.write_text(f"text\n<!-- tree: made -->\n{tree}\n<!-- end of tree -->\n", encoding="utf-8")
        found.append(editions.hashes(page))
    assert found[0] == found[1]


def test_an_unknown_name_is_refused(capsys):
    assert editions.main(["status", "99_"]) == 2
    assert "No notebook or page begins with 99_" in capsys.readouterr().err
