"""The prompt box on the embedded model: answers, and faults that only a real model has."""

import pytest
import torch
from fake_chat import ask, bubbles, finish, notice

from helpers import EMBEDDED_MODEL
from helpers.inference import load
from helpers.prompt_box import PromptBox


@pytest.fixture
def box(tmp_path):
    model, tokenizer = load(EMBEDDED_MODEL)
    made = PromptBox(model, tokenizer, folder=tmp_path, show_routing=True)
    made.temperature.value = 0
    yield made
    made.close()


def test_an_answer_and_its_experts(box):
    box.new_tokens.value = 5
    ask(box, "What is a GPU?")
    answer = box.messages[-1]["content"]
    assert answer
    shown = bubbles(box)[0][1]
    assert shown.startswith(answer)
    assert shown.count("<span title=") == 5, "also the last token, which no expert has seen"
    assert notice(box).startswith("Cut off")


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_a_model_that_overflows_says_so(box, temperature):
    with torch.no_grad():
        box.model.lm_head.weight.fill_(float("nan"))
    box.temperature.value = temperature
    ask(box, "Hi")
    assert bubbles(box) == [("Hi", "<em>no answer</em>")]
    assert "overflowed in bfloat16" in notice(box)
    assert "Regenerate" not in notice(box)


def test_a_tokenizer_without_a_chat_template_is_refused_and_the_text_stays(box):
    box.tokenizer.chat_template = None
    ask(box, "Hi")
    assert bubbles(box) == []
    assert "no chat template" in notice(box)
    assert "Regenerate" not in notice(box)
    assert box.entry.value == "Hi"


def test_a_template_that_takes_no_system_message(box):
    box.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}{{ message.content }}{% endfor %}"
    )
    ask(box, "Hi")
    assert "system" in notice(box)
    assert "Regenerate" not in notice(box)
    assert "Traceback" not in notice(box)
    assert box.entry.value == "Hi"


def test_regenerate_gives_the_same_greedy_answer(box):
    box.new_tokens.value = 5
    ask(box, "What is a GPU?")
    first = box.messages
    box.again_button.click()
    finish(box)
    assert box.messages == first
