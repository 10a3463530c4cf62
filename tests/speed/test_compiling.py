"""Whether a compiler is found, and what is said where there is none."""

import pytest

from helpers.speed import has_compiler, no_compiler


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def make_program(folder, name):
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


def test_without_a_compiler(empty_path):
    assert not has_compiler()
    assert "apt-get install g++" in no_compiler()


@pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
def test_with_one(empty_path, name):
    make_program(empty_path, name)
    assert has_compiler()


def test_the_one_that_is_asked_for(empty_path, monkeypatch):
    make_program(empty_path, "g++")
    monkeypatch.setenv("CXX", "mine++")
    assert not has_compiler()
    make_program(empty_path, "mine++")
    assert has_compiler()
