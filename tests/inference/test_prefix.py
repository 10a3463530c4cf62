"""The cache of a chat that is kept between turns: the same answers, and used only where that is safe."""

import copy
import gc
import weakref

import pytest
import torch
from five_turns import QUESTIONS
from transformers import StaticCache

from helpers.inference import KeptPrefix, stream_chat
from helpers.inference.prefix import common_beginning, filled_places
from helpers.routing import RoutingRecorder, change_weights


def answer(chat_model, messages, prefix=None, **options):
    """(text, stream) of the greedy answer."""
    model, tokenizer = chat_model
    settings = {"do_sample": False, "max_new_tokens": 24, **options}
    stream = stream_chat(model, tokenizer, messages, prefix=prefix, **settings)
    text = "".join(stream)
    return text, stream


def said(question):
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": question},
    ]


def test_five_turns_are_the_same_tokens_as_without(chat_model):
    prefix = KeptPrefix()
    messages = said(QUESTIONS[0])
    for turn, question in enumerate(QUESTIONS):
        if turn:
            messages.append({"role": "user", "content": question})
        text, stream = answer(chat_model, messages, prefix)
        _, fresh = answer(chat_model, messages)
        assert stream.token_ids == fresh.token_ids, f"turn {turn + 1}"
        assert fresh.reused_tokens == 0
        assert (stream.reused_tokens > 0) == (turn > 0)
        assert stream.reused_tokens < stream.prompt_tokens
        messages.append({"role": "assistant", "content": text})
    assert stream.reused_tokens > 0.8 * stream.prompt_tokens


def test_the_same_question_again_computes_one_token(chat_model):
    prefix = KeptPrefix()
    _, first = answer(chat_model, said(QUESTIONS[0]), prefix)
    _, again = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert again.reused_tokens == again.prompt_tokens - 1
    assert again.token_ids == first.token_ids


def test_another_chat_has_only_its_beginning_in_common(chat_model):
    prefix = KeptPrefix()
    answer(chat_model, said(QUESTIONS[0]), prefix)
    _, other = answer(chat_model, [{"role": "user", "content": "Hello"}], prefix)
    _, fresh = answer(chat_model, [{"role": "user", "content": "Hello"}])
    assert other.token_ids == fresh.token_ids
    assert other.reused_tokens < 30


def test_a_shorter_chat_after_a_longer_one(chat_model):
    prefix = KeptPrefix()
    long = [*said(QUESTIONS[0]), {"role": "assistant", "content": "So."}, {"role": "user", "content": "Why?"}]
    answer(chat_model, long, prefix)
    _, short = answer(chat_model, said(QUESTIONS[0]), prefix)
    _, fresh = answer(chat_model, said(QUESTIONS[0]))
    assert short.token_ids == fresh.token_ids
    assert short.reused_tokens == short.prompt_tokens - 1


def test_forget_computes_everything(chat_model):
    prefix = KeptPrefix()
    answer(chat_model, said(QUESTIONS[0]), prefix)
    prefix.forget()
    _, stream = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0


def test_sampling_gives_the_same_draws(chat_model):
    prefix = KeptPrefix()
    answer(chat_model, said(QUESTIONS[0]), prefix)
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 50}
    torch.manual_seed(7)
    _, reused = answer(chat_model, said(QUESTIONS[1]), prefix, **settings)
    torch.manual_seed(7)
    _, fresh = answer(chat_model, said(QUESTIONS[1]), **settings)
    assert reused.reused_tokens > 0
    assert reused.token_ids == fresh.token_ids


def test_an_answer_that_was_stopped_can_be_gone_on_from(chat_model):
    prefix = KeptPrefix()
    model, tokenizer = chat_model
    stream = stream_chat(model, tokenizer, said(QUESTIONS[0]), prefix=prefix, do_sample=False)
    for _ in stream:
        break
    _, again = answer(chat_model, said(QUESTIONS[0]), prefix)
    _, fresh = answer(chat_model, said(QUESTIONS[0]))
    assert again.reused_tokens == again.prompt_tokens - 1
    assert again.token_ids == fresh.token_ids


def test_an_answer_that_failed_leaves_nothing_behind(chat_model, monkeypatch):
    prefix = KeptPrefix()
    model, tokenizer = chat_model
    answer(chat_model, said(QUESTIONS[0]), prefix)

    def fail(*args, **options):
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr(model.lm_head, "forward", fail)
        with pytest.raises(RuntimeError, match="out of something"):
            list(stream_chat(model, tokenizer, said(QUESTIONS[0]), prefix=prefix, do_sample=False))
    _, stream = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0


def test_another_model_computes_everything(chat_model):
    prefix = KeptPrefix()
    model, tokenizer = chat_model
    answer(chat_model, said(QUESTIONS[0]), prefix)
    _, stream = answer((copy.deepcopy(model), tokenizer), said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0


def test_changed_weights_compute_everything(chat_model):
    prefix = KeptPrefix()
    model, tokenizer = chat_model
    changed = (copy.deepcopy(model), tokenizer)
    answer(changed, said(QUESTIONS[0]), prefix)
    with torch.no_grad():
        changed[0].model.layers[0].mlp.gate.weight.mul_(2)
    _, stream = answer(changed, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0
    assert stream.token_ids == answer(changed, said(QUESTIONS[0]))[1].token_ids


def test_another_number_format_computes_everything(chat_model):
    prefix = KeptPrefix()
    model, tokenizer = chat_model
    changed = (copy.deepcopy(model), tokenizer)
    answer(changed, said(QUESTIONS[0]), prefix)
    changed[0].bfloat16()
    _, stream = answer(changed, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0


def test_a_kept_cache_does_not_hold_the_model(chat_model):
    prefix = KeptPrefix()
    model, tokenizer = chat_model
    other = copy.deepcopy(model)
    answer((other, tokenizer), said(QUESTIONS[0]), prefix)
    weight = weakref.ref(other.lm_head.weight)
    del other
    gc.collect()
    assert weight() is None


def test_the_recorder_sees_every_token(chat_model):
    prefix = KeptPrefix()
    model, _ = chat_model
    answer(chat_model, said(QUESTIONS[0]), prefix)
    with RoutingRecorder(model) as recorder:
        _, stream = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0
    assert len(recorder.routing.token_id) == stream.prompt_tokens + stream.new_tokens - 1
    _, after = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert after.reused_tokens == 0, "what is recorded is not kept"


def test_what_changed_routers_computed_is_not_kept(chat_model):
    prefix = KeptPrefix()
    model, _ = chat_model

    def halve(layer, experts, weights):
        return weights / 2

    with change_weights(model, halve):
        answer(chat_model, said(QUESTIONS[0]), prefix)
    _, stream = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0


@pytest.mark.parametrize("options", [{"prompt_lookup_num_tokens": 3}, {"guidance_scale": 1.5}])
def test_options_with_a_way_of_their_own_compute_everything(chat_model, options):
    prefix = KeptPrefix()
    answer(chat_model, said(QUESTIONS[0]), prefix)
    _, stream = answer(chat_model, said(QUESTIONS[0]), prefix, **options)
    assert stream.reused_tokens == 0


def test_a_setting_of_the_model_itself_counts_too(chat_model, monkeypatch):
    prefix = KeptPrefix()
    model, _ = chat_model
    answer(chat_model, said(QUESTIONS[0]), prefix)
    monkeypatch.setattr(model.generation_config, "cache_implementation", "static")
    _, stream = answer(chat_model, said(QUESTIONS[0]), prefix)
    assert stream.reused_tokens == 0


def test_a_cache_that_cannot_be_cropped_is_not_kept(chat_model):
    model, _ = chat_model
    cache = StaticCache(config=model.config, max_cache_len=64)
    with torch.inference_mode():
        model(torch.tensor([[5, 6, 7]]), past_key_values=cache)
    assert filled_places(cache) == 0
    assert filled_places(None) == 0


@pytest.mark.parametrize(
    "cached, prompt, count",
    [([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([2], [1], 0), ([1, 2, 3], [1], 1)],
)
def test_the_common_beginning(cached, prompt, count):
    assert common_beginning(cached, prompt) == count
