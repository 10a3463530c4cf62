"""README's tree names every file of the course, with what it is for."""

import subprocess

import pytest
import readme_tree


@pytest.fixture(autouse=True)
def a_git_checkout():
    run = subprocess.run(["git", "ls-files"], cwd=readme_tree.ROOT, capture_output=True)
    if run.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of files to compare with")


def test_the_tree_is_up_to_date():
    readme = (readme_tree.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == readme_tree.readme_with_tree(), "run python tests/maintenance/readme_tree.py"


def test_every_file_is_described():
    assert readme_tree.silent_files() == []


def test_a_file_that_says_nothing_is_found(monkeypatch):
    monkeypatch.setattr(readme_tree, "tracked_files", lambda: ["LICENSE", "tests/sanitize.cfg", "setup.cfg"])
    monkeypatch.setattr(readme_tree, "own_words", lambda name: "")
    assert readme_tree.silent_files() == ["setup.cfg"]
