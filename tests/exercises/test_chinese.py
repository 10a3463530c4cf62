"""The checks in Chinese: each of them on a right and a wrong answer, and every sentence of the catalogue."""

import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from chinese_text import check_chinese
from rented_machine import RENTED
from test_download import entry, flip, hub_that_lists, reader
from test_environment import BROKEN, CARELESS, EIGHT, REPAIRED, RIGHT
from test_inference import CHAT, greedy, read
from test_prompt_box import a_new_flag_each_time, never_checks, right_bold, right_shorten, right_top_p
from test_routing import BY_KIND, common_with_english, mask, router_with, silencing
from test_sharing import right as right_sharing
from test_speed import drawn, reusable, whole_prompt
from test_vram import in_place, right_cache

from helpers import exercises
from helpers.exercises import download, environment, inference, prompt_box, routing, sharing, speed, vram
from helpers.inference import stream_chat

#: Chinese counts in 亿, hundreds of millions: the one figure that is written in another unit.
OTHER_UNITS = {"5.7 亿": "570"}
CODE_IN_A_SENTENCE = "return shape, data"  # looks like three English words
OPENINGS = {True: ("Right: ", "对了："), False: ("Not yet: ", "还不对：")}


class Answers(NamedTuple):
    """A right and a wrong answer to an exercise: functions that give the arguments of its check.

    Each gets `fixture`, a function that gives what a fixture of that name holds.
    """

    right: Callable[[Callable], tuple]
    wrong: Callable[[Callable], tuple]


def damaged(toy: Path, silently: bool) -> Path:
    """The folder, with one bit of a file changed."""
    flip(toy / "config.json", put_time_back=silently)
    return toy


def stopped_after(count: int, fixture: Callable) -> tuple:
    """A stream of an answer, and its first pieces."""
    stream = stream_chat(fixture("model"), fixture("tokenizer"), CHAT, do_sample=False)
    return stream, read(stream, count)


def reads_of_the_real_model() -> dict[str, int]:
    """What the check of notebook 04's last exercise counts with."""
    from transformers import Qwen2MoeConfig  # imported late: it takes seconds

    return inference.bytes_read(Qwen2MoeConfig())


def equal_reads(part: str) -> float:
    """With how many tokens the cache weighs as much as this part of the weights."""
    read_bytes = reads_of_the_real_model()
    return read_bytes[part] / read_bytes["cache"]


def recording_and_shares(factor: float) -> tuple:
    """A recording of notebook 06 without any preference, and the shares of its layers, times a factor."""
    logits = np.zeros((10, 2, 6), dtype=np.float32)
    experts = np.tile(np.arange(3, dtype=np.int16), (10, 2, 1))

    class Recording(NamedTuple):
        logits: np.ndarray
        experts: np.ndarray

    return Recording(logits, experts), factor * np.array([0.5, 0.5])


ANSWERS = {
    environment.check_mixtral: Answers(lambda fixture: RIGHT, lambda fixture: (RIGHT.total + 17, None)),
    environment.check_eight_experts: Answers(lambda fixture: (EIGHT,), lambda fixture: (EIGHT + 1,)),
    environment.check_driver: Answers(lambda fixture: (BROKEN, REPAIRED), lambda fixture: (BROKEN, BROKEN)),
    environment.check_careless: Answers(lambda fixture: (CARELESS,), lambda fixture: (RENTED,)),
    environment.check_smallest_card: Answers(lambda fixture: (31,), lambda fixture: (24,)),
    vram.check_kv_cache: Answers(
        lambda fixture: (right_cache,), lambda fixture: (lambda c, b, t: 7 * right_cache(c, b, t),)
    ),
    vram.check_longest_prompt: Answers(
        lambda fixture: (vram.longest_prompt(vram.Budget()),), lambda fixture: (70_000,)
    ),
    vram.check_mixtral_cards: Answers(lambda fixture: (5,), lambda fixture: (4,)),
    vram.check_two_arrays: Answers(
        lambda fixture: (in_place,), lambda fixture: (lambda x, gate, up: x @ gate,)
    ),
    download.check_line: Answers(lambda fixture: (191,), lambda fixture: (download.RIGHT_SPEED / 8,)),
    download.check_silent_damage: Answers(
        lambda fixture: (damaged(fixture("toy"), silently=True),),
        lambda fixture: (damaged(fixture("toy"), silently=False),),
    ),
    download.check_tampered: Answers(
        lambda fixture: (hub_that_lists(lambda files: [*files, entry("../../.bashrc")]),),
        lambda fixture: (hub_that_lists(lambda files: [*files, entry("notes/.bashrc")]),),
    ),
    download.check_read_tensor: Answers(
        lambda fixture: (reader(),), lambda fixture: (reader(count=lambda *_: 7),)
    ),
    inference.check_mask: Answers(
        lambda fixture: (fixture("batch")["attention_mask"], fixture("batch")),
        lambda fixture: (fixture("batch")["attention_mask"][:1], fixture("batch")),
    ),
    inference.check_stopped: Answers(
        lambda fixture: stopped_after(10, fixture), lambda fixture: stopped_after(9, fixture)
    ),
    inference.check_layers_in_ram: Answers(
        lambda fixture: (inference.layers_at(inference.one_card(22), "cpu"),), lambda fixture: (12,)
    ),
    inference.check_greedy_loop: Answers(
        lambda fixture: (greedy, fixture("model"), fixture("tokenizer")),
        lambda fixture: (lambda *_: "text", fixture("model"), fixture("tokenizer")),
    ),
    inference.check_equal_reads: Answers(
        lambda fixture: (equal_reads("weights"),), lambda fixture: (equal_reads("all"),)
    ),
    prompt_box.check_stop_button: Answers(
        lambda fixture: (a_new_flag_each_time,), lambda fixture: (never_checks,)
    ),
    prompt_box.check_bold: Answers(lambda fixture: (right_bold,), lambda fixture: (str,)),
    prompt_box.check_top_p: Answers(
        lambda fixture: (right_top_p,), lambda fixture: (lambda shares, p: shares[:2],)
    ),
    prompt_box.check_shorten: Answers(
        lambda fixture: (right_shorten,), lambda fixture: (lambda messages, count, limit: messages,)
    ),
    routing.check_router: Answers(
        lambda fixture: (routing.CheckedRouter,),
        lambda fixture: (router_with(scores=lambda scores, k: scores.topk(k).values),),
    ),
    routing.check_silenced: Answers(
        lambda fixture: (silencing(mask),),
        lambda fixture: (silencing(lambda weights, experts, expert: weights * 0),),
    ),
    routing.check_chosen_share: Answers(
        lambda fixture: recording_and_shares(1.0), lambda fixture: recording_and_shares(100.0)
    ),
    routing.check_common_load: Answers(
        lambda fixture: (BY_KIND, common_with_english(lambda smaller: smaller.sum(axis=1).mean())),
        lambda fixture: (BY_KIND, common_with_english(np.sum)),
    ),
    routing.check_bytes_per_token: Answers(
        lambda fixture: (routing.RIGHT_BYTES,), lambda fixture: (routing.RIGHT_BYTES + 2,)
    ),
    speed.check_drawn_experts: Answers(lambda fixture: (drawn,), lambda fixture: (lambda *_: 7,)),
    speed.check_crossing: Answers(
        lambda fixture: (speed.crossing(),), lambda fixture: (speed.crossing() - 1,)
    ),
    speed.check_two_cards: Answers(
        lambda fixture: (speed.CARD_BATCH * speed.BANDWIDTH / speed.step_bytes(speed.CARD_BATCH),),
        lambda fixture: (speed.BANDWIDTH / speed.step_bytes(1),),
    ),
    sharing.check_sharing: Answers(
        lambda fixture: (right_sharing,), lambda fixture: (lambda config, way, processes: True,)
    ),
    speed.check_reusable: Answers(lambda fixture: (reusable,), lambda fixture: (whole_prompt,)),
}


def in_english_units(chinese: str) -> str:
    for other, english in OTHER_UNITS.items():
        chinese = chinese.replace(other, english)
    return chinese


def test_the_table_has_every_check():
    """A check that is new here needs a row in ANSWERS: a right answer and a wrong one."""
    checks = set()
    for module in pkgutil.iter_modules(exercises.__path__):
        content = vars(importlib.import_module(f"helpers.exercises.{module.name}"))
        checks |= {content[name] for name in content if name.startswith("check_")}
    checks = {check for check in checks if hasattr(check, "__wrapped__")}
    assert checks == set(ANSWERS)


@pytest.mark.parametrize("kind", ["right", "wrong"])
@pytest.mark.parametrize("check", ANSWERS, ids=lambda check: check.__name__)
def test_both_languages_say_the_same(check, kind, request, monkeypatch, capsys):
    answers = getattr(ANSWERS[check], kind)(request.getfixturevalue)
    capsys.readouterr()  # what a download has said
    texts = []
    for language in ("en", "zh"):
        monkeypatch.setenv("COURSE_LANG", language)
        assert bool(check(*answers)) is (kind == "right")
        texts.append(capsys.readouterr().out)
    for text, opening in zip(texts, OPENINGS[kind == "right"], strict=True):
        assert text.startswith(opening)
    english, chinese = texts
    check_chinese(english, in_english_units(chinese))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (..., "还不对：把你的答案写进这个单元格，再运行一次。"),
        (len, "还不对：你的函数中途出错了（TypeError："),
    ],
)
def test_empty_and_impossible_answers(answer, sentence, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert not download.check_read_tensor(answer)
    assert capsys.readouterr().out.startswith(sentence)


def test_no_space_between_two_chinese_sentences(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert not environment.check_mixtral(RIGHT.total + 17)
    assert "太大了。已经很接近了" in capsys.readouterr().out


def test_a_list_has_the_sign_of_its_language(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert not routing.check_common_load(BY_KIND, {})
    assert capsys.readouterr().out == "还不对：没有 Chinese、code 的条目。\n"


CATALOGUE = json.loads((Path(exercises.__path__[0]) / "zh.json").read_text(encoding="utf-8"))
FIELD = re.compile(r"\{[^{}]*\}")


@pytest.mark.parametrize("english", CATALOGUE)
def test_a_sentence_of_the_catalogue(english):
    """The same figures and the same code in both languages, and no English left over in the Chinese."""
    chinese = CATALOGUE[english]
    without_fields = FIELD.sub("…", in_english_units(chinese))
    check_chinese(FIELD.sub("…", english), without_fields, CODE_IN_A_SENTENCE)
    assert sorted(re.findall("`.+?`", english)) == sorted(re.findall("`.+?`", chinese))
