"""The version of the course is the same wherever it is written."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def first(pattern: str, name: str) -> str:
    """What the first match of the pattern in a file of the course has in its brackets."""
    return re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


def test_package_citation_and_changelog_name_the_same_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert first(r"^version: (\S+)$", "CITATION.cff") == project["version"]
    assert first(r"^## (\S+)$", "CHANGELOG.md") == project["version"]
    assert first(r"^license: (\S+)$", "CITATION.cff") == project["license"]


def test_the_citation_has_the_title_of_the_readme():
    assert first(r'^title: "(.+)"$', "CITATION.cff") == first(r"^# (.+)$", "README.md")
