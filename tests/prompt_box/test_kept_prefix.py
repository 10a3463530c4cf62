"""The box keeps the cache between turns: what it answers is what it would answer without."""

import pytest
from fake_chat import ask, finish
from five_turns import QUESTIONS

from helpers.inference import stream_chat
from helpers.prompt_box import PromptBox, answer


@pytest.fixture
def streams(monkeypatch):
    """The streams that the boxes of this test start, in order."""
    started = []
    real = answer.stream_chat

    def noted(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(answer, "stream_chat", noted)
    return started


@pytest.fixture
def make_box(chat_model, tmp_path):
    boxes = []

    def make(**settings):
        box = PromptBox(*chat_model, folder=tmp_path, **settings)
        box.temperature.value = 0
        box.new_tokens.value = 24
        boxes.append(box)
        return box

    yield make
    for box in boxes:
        box.close()


def test_five_turns_are_as_without(make_box, streams):
    box = make_box()
    for question in QUESTIONS:
        ask(box, question)
    reused = [stream.reused_tokens for stream in streams]
    assert reused[0] == 0
    assert all(count > 0 for count in reused[1:])
    assert reused == sorted(reused)

    fresh = make_box()
    for question in QUESTIONS:
        fresh.conversation.prefix.forget()
        ask(fresh, question)
    assert fresh.messages == box.messages
    assert all(stream.reused_tokens == 0 for stream in streams[len(QUESTIONS) :])


def test_regenerate_computes_one_token_of_the_prompt(make_box, streams):
    box = make_box()
    ask(box, QUESTIONS[0])
    ask(box, QUESTIONS[1])
    before = box.messages
    box.again_button.click()
    finish(box)
    assert box.messages == before
    assert streams[-1].reused_tokens == streams[-1].prompt_tokens - 1


def test_clear_forgets(make_box, streams):
    box = make_box()
    ask(box, QUESTIONS[0])
    box.clear_button.click()
    ask(box, QUESTIONS[0])
    assert streams[-1].reused_tokens == 0
    assert streams[-1].token_ids == streams[0].token_ids


def test_another_system_prompt_has_little_in_common(chat_model, make_box, streams):
    box = make_box()
    ask(box, QUESTIONS[0])
    box.system.value = "Answer like a pirate."
    ask(box, QUESTIONS[1])
    last = streams[-1]
    assert last.reused_tokens < 10
    prompt = box.conversation.prompt("Answer like a pirate.", QUESTIONS[1], again=True)
    fresh = stream_chat(*chat_model, prompt, do_sample=False, max_new_tokens=24)
    list(fresh)
    assert fresh.token_ids == last.token_ids


def test_the_routing_strip_still_sees_every_token(make_box, streams):
    box = make_box(show_routing=True)
    ask(box, QUESTIONS[0])
    ask(box, QUESTIONS[1])
    assert [stream.reused_tokens for stream in streams] == [0, 0]


def test_a_closed_box_holds_no_cache(make_box):
    box = make_box()
    ask(box, QUESTIONS[0])
    assert box.conversation.prefix.tokens > 0
    box.close()
    assert box.conversation.prefix.tokens == 0
