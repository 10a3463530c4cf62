"""The prompt box in Chinese: no English is left, and a screen reader knows which language a text has."""

import json
import re
import threading

import numpy as np
import pytest
from fake_chat import CONTEXT, Prefill, ask, bubbles, finish, notice, send, status, until
from widget_texts import english_words, texts_of

from helpers.prompt_box import routing_strip
from helpers.prompt_box.errors import explain
from helpers.prompt_box.languages import labelled, language_of
from helpers.prompt_box.text_area import send_script
from helpers.routing import Routing

# Names, keys and signs that Chinese uses as well.
NOT_ENGLISH = {"Top", "GPU", "Enter", "Shift", "Tab", "conversation", "json"}


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv("COURSE_LANG", "zh")


def english_in(box):
    """English words in the box, except in the system prompt, which is for the model."""
    box.system.value = ""
    hidden = box.view.text_area.parts[1]
    messages = [part.value for part in hidden.children[:2]]  # between the page and the kernel, as JSON
    shown = [text for text in texts_of(box.view.root) if text not in messages]
    return english_words(shown, NOT_ENGLISH)


def test_the_walk_finds_english(make_box):
    found = english_in(make_box())
    for word in (
        "Send",
        "Stop",
        "Regenerate",
        "Clear",
        "Save",
        "Settings",
        "Temperature",
        "System",
        "message",
    ):
        assert word in found


def test_a_new_box_is_chinese(chinese, make_box):
    box = make_box()
    assert english_in(box) == []
    buttons = [box.send_button, box.stop_button, box.again_button, box.clear_button, box.save_button]
    assert [button.description for button in buttons] == ["发送", "停止", "重新生成", "清空", "保存"]
    assert box.view.mimebundle()["text/plain"].startswith("对话框只在")


def test_buttons_have_the_same_names_in_the_page(chinese, make_box):
    """The style sheet, send.js and the browser tests know them by these."""
    box = make_box()
    assert "chat-send" in box.send_button._dom_classes
    assert "chat-regenerate" in box.again_button._dom_classes


def test_an_answer_from_question_to_status(chinese, make_box):
    box = make_box(["混合专家模型", "有很多专家。"])
    ask(box, "什么是混合专家模型？")
    assert bubbles(box) == [("什么是混合专家模型？", "混合专家模型有很多专家。")]
    assert notice(box) == ""
    assert status(box).startswith("输入 7 个词元 · 输出 2 个 · 上下文已用 9 / 400 · 每秒 123.4 个词元")
    box.save_button.click()
    assert notice(box) == "已保存为 conversation-001.json。"
    assert english_in(box) == []


def test_stopping(chinese, make_box):
    prefill = Prefill()
    box = make_box([prefill, "一"])
    send(box, "你好")
    box.stop_button.click()
    assert notice(box).startswith("正在停止")
    prefill.set()
    finish(box)
    assert notice(box) == "已停止。"
    assert bubbles(box) == [("你好", "<em>没有回答</em>")]
    assert english_in(box) == []


def test_a_long_conversation_and_too_long_a_message(chinese, make_box):
    box = make_box(*[["答" * 90] for _ in range(5)], finish_reason="length")
    for number in range(5):
        ask(box, f"{number}" * 10)
    assert notice(box).startswith("为了不超出 400 个词元的上下文，最早的 2 轮对话没有发给模型。回答被截断")
    ask(box, "问" * CONTEXT)
    assert "但除去留给回答的位置，只放得下 300 个" in notice(box)
    assert english_in(box) == []


def test_saving_fails(chinese, make_box, tmp_path):
    box = make_box()
    box.folder = tmp_path / "missing"
    box.save_button.click()
    assert notice(box).startswith("没有保存成功（")


ERRORS = {
    "memory": (MemoryError(), "内存或显存不够了"),
    "a lost GPU": (RuntimeError("CUDA error: device-side assert triggered"), "GPU 出错"),
    "it may pass": (OSError("the disk went away"), "如果再次出错，就重启内核"),
    "it comes again": (ValueError("temperature has to be positive"), "同样的消息再发一次还会出错"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_have_chinese_advice(chinese, case):
    error, advice = ERRORS[case]
    assert advice in explain(error)


def test_a_box_keeps_its_language(monkeypatch, make_box):
    """Whatever the course speaks later: half of a box in each language would help nobody."""
    never = threading.Event()
    monkeypatch.setenv("COURSE_LANG", "zh")
    box = make_box(["一", never])
    monkeypatch.setenv("COURSE_LANG", "en")
    send(box, "你好")
    until(lambda: bubbles(box) == [("你好", "一")])
    box.stop_button.click()
    finish(box)
    assert notice(box) == "已停止。"
    assert status(box).startswith("输入 7 个词元")
    box.close()
    assert notice(box).startswith("这个对话框已经关闭")
    assert english_in(box) == []
    assert make_box().send_button.description == "Send"


def test_the_strip_below_an_answer(chinese):
    class Characters:
        def decode(self, ids):
            return {(1,): "你", (1, 2): "你好", (2,): "\ufffd", (2, 3): "好", (4,): "。"}[tuple(ids)]

    recorded = np.array([9, 1, 2, 3])
    routing = Routing(
        sequence=np.zeros(4, int),
        position=np.arange(4),
        token_id=recorded,
        decode=np.arange(4) > 0,
        layers=np.array([5]),
        experts=recorded[:, None, None],
        weights=np.ones((4, 1, 1)),
    )
    strip = routing_strip(routing, Characters(), last_token=4)
    hints = re.findall('title="(.*?)"', strip)
    assert hints[:2] == ["专家 1", "2 个词元：专家 2、专家 3"]
    assert hints[2].startswith("最后一个词元")
    assert "第 5 层中每个词元的首选专家" in strip


# Which text is in which language.


@pytest.mark.parametrize(
    "text, language",
    [
        ("Hello", "en"),
        ("你好", "zh-CN"),
        ("用 PyTorch 写一个函数：\n```python\ndef add(a, b):\n    return a + b\n```", "zh-CN"),
        ("The word 专家 means expert.", "en"),
        ("エキスパートとは何ですか", ""),
        ("Что такое эксперт?", ""),
        ("Où est l'expert? C'est très éloigné.", ""),
        ("2 + 2 = 4", None),
        ("", None),
    ],
)
def test_the_language_of_a_text(text, language):
    assert language_of(text) == language


def test_only_another_language_than_the_boxs_is_named():
    assert labelled("<b>Hi</b>", "Hi", around="en") == "<b>Hi</b>"
    assert labelled("<b>Hi</b>", "Hi", around="zh") == '<div lang="en"><b>Hi</b></div>'
    assert labelled("你好", "你好", around="en") == '<div lang="zh-CN">你好</div>'
    assert labelled("你好", "你好", around="zh") == "你好"
    assert labelled("Что?", "Что?", around="en") == '<div lang="">Что?</div>'
    assert labelled("4", "4", around="zh") == "4"


def test_bubbles_in_another_language(make_box):
    box = make_box(["你好"])
    ask(box, "Say hello in Chinese.")
    assert bubbles(box) == [("Say hello in Chinese.", '<div lang="zh-CN">你好</div>')]


@pytest.mark.parametrize(
    "spoken, name, hint", [("en", "en", "press Enter"), ("zh", "zh-CN", "按 Enter 键发送")]
)
def test_the_texts_of_the_script(monkeypatch, spoken, name, hint):
    monkeypatch.setenv("COURSE_LANG", spoken)
    script = send_script()
    texts = json.loads(re.search("const TEXTS = (.*);\n", script)[1])
    assert texts["language"] == name
    assert hint in texts["hint"]
