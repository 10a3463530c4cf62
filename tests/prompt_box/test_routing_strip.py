"""The tokens of an answer in the colours of their experts."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import EMBEDDED_MODEL
from helpers.inference import encode_chat, load, stream_chat
from helpers.prompt_box import routing_strip
from helpers.routing import RoutingRecorder

# What each token id stands for. Three tokens make the character 好, four the first emoji.
BYTES = {
    1: b"prompt",
    2: b"<b>",
    3: b"y",
    4: b"\n",
    5: "好".encode()[:1],
    6: "好".encode()[1:2],
    7: "好".encode()[2:],
    8: "🙂".encode()[:1],
    9: "🙂".encode()[1:2],
    10: "🙂".encode()[2:3],
    11: "🙂".encode()[3:],
    12: b"<|im_end|>",
}


class Tokenizer:
    """Decodes bytes, as the tokenizers of most models do: half a character becomes U+FFFD."""

    def decode(self, ids):
        return b"".join(BYTES[token] for token in ids).decode("utf-8", "replace")


def routing_of(tokens):
    """A recording of a prompt of one token and of these tokens; the expert of a token has its number."""
    recorded = np.array([1, *tokens])
    experts = np.stack([recorded, recorded + 20], axis=-1)[:, None, :]  # (tokens, one layer, two experts)
    return SimpleNamespace(
        token_id=recorded, decode=np.arange(len(recorded)) > 0, experts=experts, layers=np.array([5])
    )


def spans(strip):
    """(title, background, text) of every span."""
    return re.findall(r'<span title="(.*?)" style="background: (.*?); color: #222">(.*?)</span>', strip)


def test_the_strip_escapes_and_shows_the_answer_only():
    strip = routing_strip(routing_of([2, 3]), Tokenizer())
    assert spans(strip) == [
        ("expert 2", "hsl(274, 70%, 80%)", "&lt;b&gt;"),
        ("expert 3", "hsl(51, 70%, 80%)", "y"),
    ]
    assert "prompt" not in strip
    assert "layer 5" in strip


def test_the_last_token_is_there_and_has_no_expert():
    strip = routing_strip(routing_of([2, 3]), Tokenizer(), last_token=12)
    title, _, text = spans(strip)[-1]
    assert text == "&lt;|im_end|&gt;"
    assert "the model did not read it" in title


def test_an_answer_of_one_token_has_only_a_last_token():
    strip = routing_strip(routing_of([]), Tokenizer(), last_token=3)
    assert [text for title, background, text in spans(strip)] == ["y"]


@pytest.mark.parametrize(
    ("tokens", "last", "texts"),
    [
        ([3, 5, 6, 7, 3], 12, ["y", "好", "y", "&lt;|im_end|&gt;"]),
        ([8, 9, 10, 11, 5, 6, 7], 12, ["🙂", "好", "&lt;|im_end|&gt;"]),
        ([3, 5, 6], 7, ["y", "好"]),  # the last token completes a character
        ([3, 5], 6, ["y", "\ufffd"]),  # cut off in the middle of a character
        ([4, 3], 3, ["↵", "y", "y"]),
    ],
)
def test_parts_of_a_character_are_shown_as_the_character(tokens, last, texts):
    strip = routing_strip(routing_of(tokens), Tokenizer(), last_token=last)
    assert [text for title, background, text in spans(strip)] == texts


def test_a_character_of_several_tokens_names_all_their_experts():
    title, background, text = spans(routing_strip(routing_of([5, 6, 7]), Tokenizer()))[0]
    assert text == "好"
    assert title == "3 tokens: expert 5, expert 6, expert 7"
    assert background.startswith("linear-gradient(90deg, hsl(325, 70%, 80%), hsl(102")


@pytest.fixture(scope="module")
def embedded():
    return load(EMBEDDED_MODEL)


@pytest.mark.parametrize("question", ["What is a GPU?", "什么是大语言模型？", "🙂鑫"])
@pytest.mark.parametrize("max_new_tokens", [1, 5, 200])
def test_the_strip_of_a_real_answer_is_the_whole_answer(embedded, question, max_new_tokens):
    model, tokenizer = embedded
    messages = [{"role": "user", "content": question}]
    with RoutingRecorder(model) as recorder:
        stream = stream_chat(model, tokenizer, messages, max_new_tokens=max_new_tokens, do_sample=False)
        answer = "".join(stream)
    strip = routing_strip(recorder.routing, tokenizer, stream.token_ids[-1])
    texts = [text for title, background, text in spans(strip)]
    if stream.finish_reason == "stop":
        assert texts.pop() == "&lt;|im_end|&gt;"
    assert "".join(texts) == answer.replace("\n", "↵")


def test_the_prompt_can_have_characters_of_several_tokens(embedded):
    """The embedded model itself rarely writes such a character, so they are taken from a prompt."""
    _, tokenizer = embedded
    text = "专家🙂鑫"
    ids = encode_chat(tokenizer, [{"role": "user", "content": text}])["input_ids"][0].tolist()
    pieces = [tokenizer.decode([token]) for token in ids]
    assert "\ufffd" in pieces, "this tokenizer splits one of these characters"
    recorded = SimpleNamespace(
        token_id=np.array(ids),
        decode=np.ones(len(ids), dtype=bool),
        experts=np.zeros((len(ids), 1, 2), dtype=int),
        layers=np.array([0]),
    )
    texts = [found for title, background, found in spans(routing_strip(recorded, tokenizer))]
    assert text in "".join(texts)
    assert "\ufffd" not in "".join(texts)
