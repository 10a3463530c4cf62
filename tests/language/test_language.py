"""Which language the course speaks, and that every sentence of its code exists in both."""

import ast
import json
import string
from pathlib import Path

import pytest
from chinese_text import CHINESE

from helpers import language

HELPERS = Path(language.__file__).parent


@pytest.fixture
def nobody_asks(monkeypatch):
    for variable in ("COURSE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    "wanted, spoken",
    [("zh", "zh"), ("en", "en"), ("ZH", "zh"), ("zh-CN", "zh"), ("zh_CN.UTF-8", "zh"), (" en_US ", "en")],
)
def test_course_lang_decides(monkeypatch, wanted, spoken):
    monkeypatch.setenv("COURSE_LANG", wanted)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language.language() == spoken


def test_an_unknown_language_falls_back_to_english_and_says_so_once(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_LANG", "fr")
    monkeypatch.setattr(language, "_refused", set())
    assert language.language() == "en"
    assert language.language() == "en"
    assert capsys.readouterr().err.count("COURSE_LANG=fr is not a language of this course") == 1


@pytest.mark.parametrize("edition", ["en", "zh"])
def test_the_folder_of_the_notebook_comes_before_the_locale(nobody_asks, monkeypatch, tmp_path, edition):
    folder = tmp_path / "notebooks" / edition
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert language.language() == edition


@pytest.mark.parametrize(
    "variables, spoken",
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_decides_last(nobody_asks, monkeypatch, tmp_path, variables, spoken):
    monkeypatch.chdir(tmp_path)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert language.language() == spoken


def test_values_are_put_into_the_chinese_sentence(monkeypatch):
    monkeypatch.setattr(language, "catalogue", lambda: {"{n} files in {place}": "{place} 里有 {n} 个文件"})
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert language.say("{n} files in {place}", n=3, place="a {b}") == "a {b} 里有 3 个文件"
    monkeypatch.setenv("COURSE_LANG", "en")
    assert language.say("{n} files in {place}", n=3, place="a {b}") == "3 files in a {b}"


# Every sentence of the code


def sentences_of(source: str) -> list[tuple[int, str | None]]:
    """Line and text of each first argument of `say` and `to_say`; None where it is no text in this place."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id not in ("say", "to_say"):
            continue
        argument = node.args[0]
        text = None
        if isinstance(argument, ast.Constant):
            text = argument.value
        elif node.func.id == "say" and not isinstance(argument, ast.JoinedStr | ast.BinOp):
            continue  # a constant that was marked by `to_say` where it was defined
        found.append((node.lineno, text))
    return found


def fields(sentence: str) -> list[tuple[str, str]]:
    """Names and formats of the fields, as in [("free", ".1f")], in the order of their names."""
    found = []
    for _text, name, form, _conversion in string.Formatter().parse(sentence):
        if name is not None:
            found.append((name, form or ""))
    return sorted(set(found))


CODE = sorted(HELPERS.rglob("*.py"))


@pytest.mark.parametrize("file", CODE, ids=[str(file.relative_to(HELPERS)) for file in CODE])
def test_every_sentence_of_the_code_is_in_the_catalogue(file):
    for line, sentence in sentences_of(file.read_text(encoding="utf-8")):
        assert sentence is not None, f"line {line}: a sentence is one text, not an f-string and not a sum"
        assert sentence in language.catalogue(), f"line {line}: no Chinese for {sentence!r}"


def test_no_sentence_of_a_catalogue_is_left_over():
    used = set()
    for file in CODE:
        for _line, sentence in sentences_of(file.read_text(encoding="utf-8")):
            used.add(sentence)
    assert set(language.catalogue()) - used == set()


def test_both_languages_have_the_same_fields():
    for english, chinese in language.catalogue().items():
        assert fields(english) == fields(chinese), english


def test_every_chinese_sentence_is_chinese():
    for english, chinese in language.catalogue().items():
        assert CHINESE.search(chinese), english


def test_no_two_catalogues_differ_about_a_sentence():
    seen: dict[str, str] = {}
    for file in language.catalogue_files():
        for english, chinese in json.loads(file.read_text(encoding="utf-8")).items():
            assert seen.setdefault(english, chinese) == chinese, f"{file.parent.name}: {english}"


def test_the_search_for_sentences_finds_what_it_should():
    source = 'say("a {b}", b=1)\nsay(f"a {b}")\nto_say("c")\nsay(CONSTANT)\nsay("d" + e)'
    assert sentences_of(source) == [(1, "a {b}"), (2, None), (3, "c"), (5, None)]
