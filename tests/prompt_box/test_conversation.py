"""What was said, and how much of it is sent."""

import numpy as np
import pytest

from helpers import CourseError
from helpers.prompt_box import Conversation, conversation, fit


@pytest.fixture(autouse=True)
def one_token_a_character(monkeypatch):
    def encode(tokenizer, messages):
        characters = sum(len(message["content"]) for message in messages)
        return {"input_ids": np.zeros((1, characters))}

    monkeypatch.setattr(conversation, "encode_chat", encode)


def texts(messages):
    return [message["content"] for message in messages]


def test_a_conversation_in_turns():
    chat = Conversation("S")
    assert chat.messages == [{"role": "system", "content": "S"}]
    chat.ask("a")
    chat.set_answer("S", "one")
    chat.ask("b")
    chat.set_answer("T", "two")
    assert [message["role"] for message in chat.messages] == ["system", *["user", "assistant"] * 2]
    assert texts(chat.messages) == ["T", "a", "one", "b", "two"], "the system prompt of the newest answer"
    assert texts(chat.prompt("U", "c")) == ["U", "a", "one", "b", "two", "c"]
    assert texts(chat.prompt("U", "b", again=True)) == ["U", "a", "one", "b"]


def test_a_question_without_an_answer_is_left_out():
    chat = Conversation("S")
    chat.ask("a")
    assert texts(chat.messages) == ["S"]
    assert texts(chat.prompt("S", "a", again=True)) == ["S", "a"]
    chat.ask("b")
    chat.set_answer("S", "two")
    assert texts(chat.messages) == ["S", "b", "two"]


def test_the_same_question_twice_is_two_turns():
    chat = Conversation("S")
    for answer in ("one", "two"):
        chat.ask("a")
        chat.set_answer("S", answer)
    assert texts(chat.messages) == ["S", "a", "one", "a", "two"]
    assert texts(chat.prompt("S", "a", again=True)) == ["S", "a", "one", "a"]


def test_clear_keeps_the_system_prompt():
    chat = Conversation("S")
    chat.ask("a")
    chat.set_answer("T", "one")
    chat.clear()
    assert texts(chat.messages) == ["T"]
    assert chat.question == ""


def long_chat(turns):
    chat = Conversation("S" * 10)
    for number in range(turns):
        chat.ask(f"{number}" * 10)
        chat.set_answer("S" * 10, "a" * 10)
    return chat.prompt("S" * 10, "?" * 10)


@pytest.mark.parametrize(
    ("limit", "dropped"), [(100, 0), (80, 0), (79, 1), (60, 1), (59, 2), (40, 2), (39, 3), (20, 3)]
)
def test_the_oldest_turns_are_left_out(limit, dropped):
    messages = long_chat(turns=3)
    kept, left_out = fit(messages, None, limit)
    assert left_out == dropped
    assert kept == [messages[0], *messages[1 + 2 * dropped :]]


@pytest.mark.parametrize(("turns", "limit"), [(0, 19), (3, 19), (3, 1)])
def test_a_question_that_never_fits_is_refused(turns, limit):
    with pytest.raises(CourseError, match=f"a prompt of 20 tokens.*shorten it by {20 - limit} tokens"):
        fit(long_chat(turns), None, limit)
