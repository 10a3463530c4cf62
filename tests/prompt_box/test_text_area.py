"""The text area and the Enter key, seen from the kernel. What the page does is in tests/browser."""

import threading
from types import SimpleNamespace

import ipywidgets as widgets
import pytest
from fake_chat import CONTEXT, Prefill, bubbles, finish, notice, send, until

from helpers.prompt_box import text_area
from helpers.prompt_box.text_area import WITH_BUTTON, WITH_ENTER, TextArea


class FakeKey(widgets.Widget):
    """The invisible widget of anywidget without its page: `press` is what `enter.js` does."""

    def __init__(self, _esm):
        super().__init__()
        self.script = _esm
        self.replies = []

    def on_msg(self, callback):
        self.callback = callback

    def receive(self, message):
        self.callback(self, message, [])

    def press(self, text):
        self.receive({"text": text})

    def send(self, content, buffers=None):
        self.replies.append(content)


@pytest.fixture
def key(monkeypatch):
    """Puts a fake Enter key into the next box, and finds it."""
    made = []

    def make(_esm):
        made.append(FakeKey(_esm))
        return made[-1]

    monkeypatch.setattr(text_area, "anywidget", SimpleNamespace(AnyWidget=make))
    return lambda: made[-1]


def test_enter_sends_and_the_text_is_taken(make_box, key):
    box = make_box(["fine"])
    box.entry.value = "an older copy"
    key().press(" Hi\n")
    finish(box)
    assert bubbles(box) == [("Hi", "fine")]
    assert key().replies == [{"taken": True}]
    assert box.entry.value == "an older copy", "only the page knows what is in the text area by now"


def test_the_text_is_taken_when_the_question_is_there_and_not_before(make_box, key):
    prefill = Prefill()
    box = make_box([prefill, "fine"])
    shown_at_reply = []
    key().send = lambda content: shown_at_reply.append((content, bubbles(box)))
    key().press("Hi")
    until(lambda: shown_at_reply)
    assert shown_at_reply == [({"taken": True}, [("Hi", "…")])]
    prefill.set()
    finish(box)


@pytest.mark.parametrize("text", ["", "  \n", "x" * CONTEXT], ids=["empty", "blank", "too long"])
def test_a_refused_text_is_not_taken(make_box, key, text):
    box = make_box()
    key().press(text)
    finish(box)
    assert key().replies == [{"taken": False}]
    assert bubbles(box) == []


def test_enter_while_an_answer_is_written_is_not_taken(make_box, key):
    never = threading.Event()
    box = make_box(["a", never])
    send(box, "first")
    until(lambda: bubbles(box) == [("first", "a")])
    key().press("second")
    assert key().replies == [{"taken": False}]
    box.stop_button.click()
    finish(box)
    assert key().replies == [{"taken": False}], "the answer to Send is none to Enter"
    assert bubbles(box) == [("first", "a")]


def test_enter_in_a_closed_box_is_not_taken(make_box, key):
    box = make_box()
    box.close()
    key().press("Hi")
    assert key().replies == [{"taken": False}]
    assert "closed" in notice(box)


def test_regenerate_answers_no_enter(make_box, key):
    box = make_box(["one"], ["two"])
    key().press("Hi")
    finish(box)
    box.again_button.click()
    finish(box)
    assert bubbles(box) == [("Hi", "two")]
    assert key().replies == [{"taken": True}]


def test_the_hint_speaks_of_enter_once_a_page_has_it(make_box, key):
    box = make_box()
    assert box.entry.placeholder == WITH_BUTTON
    key().receive({"ready": True})
    assert box.entry.placeholder == WITH_ENTER


def test_without_the_package_there_is_only_the_text_area(make_box, monkeypatch):
    monkeypatch.setattr(text_area, "anywidget", None)
    assert len(TextArea().parts) == 1
    box = make_box(["fine"])
    send(box, "Hi")
    finish(box)
    assert bubbles(box) == [("Hi", "fine")]
    assert box.entry.value == ""
