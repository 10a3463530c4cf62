"""The environment check in Chinese: the same figures as in English, and no English sentence in it."""

import random
import re
from dataclasses import replace

import pytest
from chinese_text import CHINESE, check_chinese, without_commands
from fake_tools import CARD, fake_gpus, fake_nvidia_smi
from machines import AUTODL, MACHINES, check_lines
from test_capacity import random_memory
from test_nvidia_smi import FAILURES

from helpers import CourseError
from helpers.environment import (
    REAL_MODEL,
    check,
    decide,
    gpu_holders,
    print_versions,
    read_gpus,
    requirements,
    show_environment,
)
from helpers.environment.command import main
from helpers.environment.model_folder import FolderState
from helpers.terminal import places

#: Words in small letters that are names: of models, packages, settings.
NAMES = {"real", "embedded", "auto", "sdpa", "wheel", "torch", "pip", "flash", "attn", "tsinghua", "http"}
NAMES |= {"requirements", "txt", "nvidia", "smi"}
for package in requirements():
    NAMES |= set(package.split("-"))


def in_no_language(described):
    """A described machine without the words of the probes, which speak the language of the reader."""
    changes = {}
    for name in ("gpu_problem", "gpu_remedy", "gpu_holders"):
        if getattr(described, name):
            changes[name] = "…"
    cards = []
    for card in described.gpus:
        name = card.name.replace("a card", "GPU").replace(", slice of 40 GB", " (40 GB)")
        name = name.replace("NVIDIA GeForce", "NVIDIA")  # three names in a row would look like English
        cards.append(replace(card, name=name))
    return replace(described, gpus=tuple(cards), **changes)


def table_of(described, model, capsys):
    show_environment(described, model)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", MACHINES)
def test_the_table(name, both, capsys):
    described, model, _ = MACHINES[name]
    spoken = in_no_language(described)
    english, chinese = both(lambda: table_of(spoken, model, capsys))
    check_chinese(english, chinese)
    words = set(re.findall(r"(?<![\w.=-])[a-z]{3,}(?![\w.-])", without_commands(chinese)))
    assert words <= NAMES, words - NAMES


@pytest.mark.parametrize("name", MACHINES)
def test_language_changes_no_verdict(name, both):
    described, model, _ = MACHINES[name]
    english, chinese = both(lambda: check(described, model))
    for one, other in zip(chinese, english, strict=True):
        assert (one.name, one.verdict, one.slow) == (other.name, other.verdict, other.slow)
        assert bool(one.repair) == bool(other.repair)


def test_columns_stay_in_line_where_a_character_takes_two_places(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_LANG", "zh")
    text = table_of(MACHINES["a laptop, embedded model"][0], "embedded", capsys)
    starts = set()
    for line in text.splitlines():
        if line.startswith(("结论", "正常")):
            before_last = re.match(r".*\s{2,}(?=\S)", line)[0]
            starts.add(places(before_last))
    assert len(starts) == 1


def test_sentences_of_the_rule_on_random_machines(both):
    generator = random.Random(33)
    for _ in range(60):
        memory = random_memory(generator)
        english, chinese = both(lambda memory=memory: decide(REAL_MODEL, memory))
        check_chinese(english.sentence, chinese.sentence)
        assert replace(chinese, sentence="", then=None) == replace(english, sentence="", then=None)


@pytest.mark.parametrize("state", ["gone", "incomplete", "unreadable"])
def test_a_download_that_is_not_whole(state, both):
    described = replace(AUTODL, download=FolderState(state), free_disk=10**9)
    english, chinese = both(lambda: check_lines(described)["model disk"].repair)
    check_chinese(english, chinese)
    assert "python -m helpers.download download" in chinese


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize(("says", "next_step"), FAILURES)
def test_nvidia_smi_is_quoted_and_the_next_step_is_the_same(says, next_step, programs, both):
    fake_gpus(programs, [], says=says, code=255)
    english, chinese = both(read_gpus)
    assert says.splitlines()[0] in chinese.problem
    assert CHINESE.search(chinese.problem)
    check_chinese(english.remedy, chinese.remedy)


@pytest.mark.parametrize("script", ["exit 3", "kill -11 $$", "exit 0", "exec sleep 20"])
def test_nvidia_smi_that_says_nothing(script, programs, both):
    fake_nvidia_smi(programs, script)
    english, chinese = both(lambda: read_gpus(seconds=0.5))
    check_chinese(english.problem, chinese.problem)
    assert bool(chinese.remedy) == bool(english.remedy)


@pytest.mark.parametrize("setting", ["7", "0,0", "-1"])
def test_hidden_gpus(setting, programs, both, monkeypatch):
    fake_gpus(programs, [CARD])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    english, chinese = both(read_gpus)
    check_chinese(english.problem, chinese.problem)


@pytest.mark.parametrize("apps", ["", "4711, /usr/bin/train, 17408 MiB"])
def test_holders(apps, programs, both):
    fake_gpus(programs, [], apps=apps)
    english, chinese = both(lambda: gpu_holders(root=str(programs)))
    check_chinese(english, chinese)


def test_versions(both, capsys):
    def table():
        print_versions("no-such-package")
        return capsys.readouterr().out

    check_chinese(*both(table))


def help_of(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    return capsys.readouterr().out


def test_help(both, capsys):
    english, chinese = both(lambda: help_of(capsys))
    assert english.startswith("usage: python -m helpers.environment")
    assert "show this help message and exit" in english
    assert chinese.startswith("用法：python -m helpers.environment")
    check_chinese(english, chinese)


REFUSED = ["huge", "reel", "somebody/else", "/no/such/folder", "https://example.org/x", "", "a.bin", "empty"]


@pytest.mark.parametrize("model", REFUSED)
def test_refusals(model, both, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("COURSE_MODEL", "''")

    def refusal():
        with pytest.raises(CourseError) as error:
            show_environment(model=model)
        return str(error.value)

    check_chinese(*both(refusal))
