"""The text area and the Enter key, seen from the kernel. What the page does is in tests/browser."""

import itertools
import json
import threading

import ipywidgets as widgets
import pytest
from fake_chat import CONTEXT, Prefill, bubbles, finish, notice, send, until

numbers = itertools.count(1)


class EnterKey:
    """What `send.js` does: it writes a message, and reads the answers."""

    def __init__(self, box):
        self.outbox, self.inbox = hidden_widgets(box)
        self.answers = []
        self.inbox.observe(lambda change: self.answers.append(json.loads(change.new)), "value")

    def press(self, text):
        """Returns the number of the message."""
        number = next(numbers)
        self.outbox.value = json.dumps({"id": number, "text": text})
        return number


def hidden_widgets(box):
    hidden = box.view.text_area.parts[1]
    assert hidden.layout.display == "none"
    outbox, inbox, script = hidden.children
    assert isinstance(script, widgets.Output)
    return outbox, inbox


def test_enter_sends_and_the_text_is_taken(make_box):
    box = make_box(["fine"])
    key = EnterKey(box)
    box.entry.value = "an older copy"
    number = key.press(" Hi\n")
    finish(box)
    assert bubbles(box) == [("Hi", "fine")]
    assert key.answers == [{"id": number, "taken": True}]
    assert box.entry.value == "an older copy", "only the page knows what is in the text area by now"


def test_the_same_text_twice_is_two_messages(make_box):
    box = make_box(["one"], ["two"])
    key = EnterKey(box)
    for _ in range(2):
        key.press("Hi")
        finish(box)
    assert bubbles(box) == [("Hi", "one"), ("Hi", "two")]


def test_the_text_is_taken_when_the_question_is_there_and_not_before(make_box):
    prefill = Prefill()
    box = make_box([prefill, "fine"])
    key = EnterKey(box)
    shown_at_answer = []
    key.inbox.observe(lambda change: shown_at_answer.append(bubbles(box)), "value")
    key.press("Hi")
    until(lambda: shown_at_answer)
    assert shown_at_answer == [[("Hi", "…")]]
    prefill.set()
    finish(box)


@pytest.mark.parametrize("text", ["", "  \n", "x" * CONTEXT], ids=["empty", "blank", "too long"])
def test_a_refused_text_is_not_taken(make_box, text):
    box = make_box()
    key = EnterKey(box)
    number = key.press(text)
    finish(box)
    assert key.answers == [{"id": number, "taken": False}]
    assert bubbles(box) == []


def test_half_a_surrogate_pair_is_no_text(make_box):
    box = make_box()
    EnterKey(box).press("a\ud800b")
    finish(box)
    assert bubbles(box) == [("a?b", "ok")]


def test_enter_while_an_answer_is_written_is_not_taken(make_box):
    never = threading.Event()
    box = make_box(["a", never])
    key = EnterKey(box)
    send(box, "first")
    until(lambda: bubbles(box) == [("first", "a")])
    number = key.press("second")
    assert key.answers == [{"id": number, "taken": False}]
    box.stop_button.click()
    finish(box)
    assert len(key.answers) == 1, "the answer to Send is none to Enter"
    assert bubbles(box) == [("first", "a")]


def test_enter_in_a_closed_box_is_not_taken(make_box):
    box = make_box()
    key = EnterKey(box)
    box.close()
    number = key.press("Hi")
    assert key.answers == [{"id": number, "taken": False}]
    assert "closed" in notice(box)


def test_regenerate_answers_no_enter(make_box):
    box = make_box(["one"], ["two"])
    key = EnterKey(box)
    key.press("Hi")
    finish(box)
    box.again_button.click()
    finish(box)
    assert bubbles(box) == [("Hi", "two")]
    assert len(key.answers) == 1


def test_the_messages_of_enter_report_to_the_pages_subshell(make_box):
    """Else ipykernel 7.4 may lose them after a reload of the page."""
    outbox, _ = hidden_widgets(make_box())
    assert outbox.comm._reply_subshell_for({"method": "update"}, "the page's") == "the page's"
