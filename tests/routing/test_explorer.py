"""The explorer follows its controls, shows every expert on one axis, and shows texts as texts."""

import re

import numpy as np
import pytest
from widget_texts import english_words, texts_of

from helpers.routing import Explorer, Routing
from helpers.routing.explorer import MOST_TOKENS, choice_as_html


class Characters:
    """A tokenizer with one token per character."""

    def decode(self, ids):
        return "".join(chr(token) for token in ids)


def record(text, *, layers=2, experts=4, keep_logits=True):
    """The routing of a text: token 0 goes to experts 0 and 1 in layer 0, to 1 and 2 in layer 1, and so on."""
    if text == "bad":
        raise ValueError("no <b>text</b>")
    token, layer, rank = np.indices((len(text), layers, 2))
    logits = None
    if keep_logits:
        logits = np.zeros((len(text), layers, experts), np.float32) + np.arange(experts)
    return Routing(
        sequence=np.zeros(len(text), int),
        position=np.arange(len(text)),
        token_id=np.array([ord(character) for character in text], int),
        decode=np.zeros(len(text), bool),
        layers=np.arange(layers),
        experts=((token + layer + rank) % experts).astype(np.int16),
        weights=(0.5 / (1 + rank)).astype(np.float32),
        shared_gate=np.full((len(text), layers), 0.25, np.float32),
        logits=logits,
    )


def bars(view):
    """Height (per cent of the axis) of each bar, and which of them are strong."""
    found = re.findall(r"height:([\d.]+)%; background:currentColor; opacity:([\d.]+)", view)
    heights = [float(height) for height, _ in found]
    strong = [number for number, (_, opacity) in enumerate(found) if float(opacity) > 0.5]
    return heights, strong


def explore(text):
    return Explorer(record, Characters(), text)


def test_its_first_view():
    view = explore("a<").view.value
    assert "Token 0" in view
    assert "expert 0: 0.50, expert 1: 0.25; their sum: 0.75; shared expert's gate: 0.25" in view
    heights, strong = bars(view)
    assert len(heights) == 4
    assert strong == [0, 1]
    assert heights[:2] == [71.4, 35.7]  # 0.5 and 0.25 of an axis up to 0.7, which holds the softmax of 3


def test_it_follows_layer_and_token():
    explorer = explore("a<")
    explorer.layer.value = 1
    assert bars(explorer.view.value)[1] == [1, 2]
    explorer.token.value = 1
    assert bars(explorer.view.value)[1] == [2, 3]
    assert "&lt;" in explorer.view.value
    assert "<'" not in explorer.view.value


def test_the_pointer_on_a_token_shows_its_experts():
    explorer = explore("ab")
    assert list(explorer.token.tooltips) == ["experts 0, 1", "experts 1, 2"]
    explorer.layer.value = 1
    assert list(explorer.token.tooltips) == ["experts 1, 2", "experts 2, 3"]


def test_spaces_and_new_lines_can_be_seen():
    labels = [label for label, _ in explore("a b\n").token.options]
    assert labels == ["a", "·", "b", "↵"]


def test_another_text_begins_at_its_first_token():
    explorer = explore("ab")
    explorer.token.value = 1
    explorer.text.value = "other"
    assert [label for label, _ in explorer.token.options] == list("other")
    assert "Token 0, &#x27;o&#x27;" in explorer.view.value


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_text(text):
    explorer = explore(text)
    assert explorer.view.value == "There is no text: type some words above, and press Enter."
    explorer.layer.value = 0
    explorer.text.value = "a"
    assert "Token 0" in explorer.view.value
    explorer.text.value = text
    assert "There is no text" in explorer.view.value


def test_a_text_that_cannot_be_recorded():
    explorer = explore("bad")
    assert "no &lt;b&gt;text&lt;/b&gt;" in explorer.view.value
    explorer.text.value = "again"
    assert "expert 0" in explorer.view.value


def test_a_long_text():
    explorer = explore("x" * (MOST_TOKENS + 50))
    assert len(explorer.token.options) == MOST_TOKENS
    assert f"The first {MOST_TOKENS} of {MOST_TOKENS + 50} tokens are shown." in explorer.view.value


def test_at_the_size_of_the_real_model():
    view = choice_as_html(record("a", layers=24, experts=60), token=0, layer=20)
    heights, strong = bars(view)
    assert len(heights) == 60
    assert strong == [20, 21]
    assert max(heights) <= 100
    numbers = re.findall(r"justify-content:center\">(\d+)<", view)
    assert numbers == [str(number) for number in range(0, 60, 4)]


def test_without_scores_only_the_chosen_have_bars():
    view = choice_as_html(record("abc", keep_logits=False), token=0, layer=0)
    assert bars(view) == ([100.0, 50.0, 0.0, 0.0], [0, 1])
    assert "Faint" not in view


def test_without_a_kernel():
    bundle = explore("ab")._repr_mimebundle_()
    assert bundle["text/plain"] == "Routing explorer"
    assert "run this cell" in bundle["text/html"]
    assert "&#x27;a&#x27; goes to the experts 0, 1" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


# In Chinese.


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("COURSE_LANG", "zh")


def english_in(explorer):
    return english_words(texts_of(explorer), allowed={"softmax"})


def test_the_walk_finds_english():
    found = english_in(explore("词元"))
    for word in ("Text", "Layer", "Token", "layer", "experts", "weight", "bars", "sum", "gate", "scores"):
        assert word in found


def test_the_explorer_is_chinese(chinese):
    explorer = explore("词<")
    assert english_in(explorer) == []
    view = explorer.view.value
    assert "专家 0：0.50、专家 1：0.25；合计：0.75；共享专家的门控值：0.25" in view
    assert "词元 0：&#x27;词&#x27;，第 0 层" in view
    assert view.startswith('<div lang="zh-CN"')
    assert list(explorer.token.tooltips) == ["专家 0、1", "专家 1、2"]
    explorer.token.value = 1
    explorer.layer.value = 1
    assert english_in(explorer) == []


@pytest.mark.parametrize(
    "text, sentence",
    [("", "还没有文本"), ("bad", "无法显示这段文本（"), ("词" * 250, "共 250 个词元，只显示前 200 个。")],
)
def test_its_notices_are_chinese(chinese, text, sentence):
    explorer = explore(text)
    assert sentence in explorer.view.value


def test_without_scores_and_gate_it_is_chinese(chinese):
    recorded = record("词", keep_logits=False)
    recorded.shared_gate = None
    explorer = Explorer(lambda text: recorded, Characters(), "词")
    assert english_in(explorer) == []
    assert "专家 0：0.50、专家 1：0.25；合计：0.75</p>" in explorer.view.value


def test_without_a_kernel_it_is_chinese(chinese):
    bundle = explore("词元")._repr_mimebundle_()
    assert bundle["text/plain"] == "路由查看器"
    assert "在第 0 层，第一个词元 &#x27;词&#x27; 被送往专家 0、1。" in bundle["text/html"]
    assert "运行这个单元格" in explore("")._repr_mimebundle_()["text/html"]


def test_an_explorer_keeps_its_language(monkeypatch):
    monkeypatch.setenv("COURSE_LANG", "zh")
    explorer = explore("词")
    monkeypatch.setenv("COURSE_LANG", "en")
    explorer.text.value = "元"
    explorer.layer.value = 1
    assert english_in(explorer) == []
    assert "路由查看器" in explorer._repr_mimebundle_()["text/html"]
    assert explore("a").layer.description == "Layer"
