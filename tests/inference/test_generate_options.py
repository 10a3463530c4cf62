"""Options of `generate` in a stream: they work as in `generate`, or they are refused in one sentence."""

from types import SimpleNamespace

import pytest
import torch
from inference_samples import says, user
from transformers import GenerationConfig, LogitsProcessorList

from helpers import CourseError
from helpers.inference import context_tokens, encode_chat, stream_chat, streaming
from helpers.inference.generate_options import end_tokens


def refusal(loaded, **options) -> str:
    """The one sentence with which these options are refused, before or while the model computes."""
    with pytest.raises(CourseError) as error:
        list(stream_chat(*loaded, user("x"), **options))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert "again for every token" in sentence or "again" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_beams": 4}, "num_beams=4 cannot be streamed"),
        ({"num_beams": 2, "do_sample": False}, "num_beams=2 cannot be streamed"),
        ({"num_return_sequences": 2}, "num_return_sequences=2 cannot be streamed"),
        ({"num_return_sequences": 3, "do_sample": True}, "num_return_sequences=3"),
        ({"use_cache": False}, "use_cache=False"),
        ({"generation_config": GenerationConfig(num_beams=3)}, "num_beams=3"),
        ({"streamer": object()}, "streamer"),
        ({"stopping_criteria": []}, "stopping_criteria"),
        ({"input_ids": torch.ones(1, 3)}, "input_ids"),
        ({"attention_mask": torch.ones(1, 3)}, "attention_mask"),
        ({"inputs_embeds": torch.ones(1, 3, 32)}, "inputs_embeds"),
        ({"position_ids": torch.arange(3)[None]}, "hands position_ids to generate itself"),
        ({"position_ids": [0, 1]}, "hands position_ids to generate itself"),
        ({"synced_gpus": True}, "generate refuses"),
        ({"past_key_values": 5}, "generate refuses"),
        ({"token_healing": True}, "generate refuses"),
        ({"is_assistant": True}, "generate refuses"),
        ({"cache_implementation": "quantized"}, "generate refuses"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many'"),
        ({"max_new_tokens": None}, "max_new_tokens is None"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"max_new_tokens": 0}, "at least one new token"),
        ({"max_new_tokens": -3}, "at least one new token"),
        ({"temperature": -1.0, "do_sample": True}, "temperature"),
        ({"temperature": "hot", "do_sample": True}, "generate refuses"),
        ({"top_p": -0.5, "do_sample": True}, "top_p"),
        ({"top_k": -1, "do_sample": True}, "top_k"),
        ({"repetition_penalty": 0}, "penalty"),
        ({"cache_implementation": "no_such_cache"}, "cache"),
        ({"nonsense": 3}, "nonsense"),
        ({"temprature": 0.5}, "temprature"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": "two"}, "num_beams is 'two'"),
        ({"num_return_sequences": -1}, "num_return_sequences is -1"),
        ({"use_cache": 0}, "use_cache=False"),
        ({"eos_token_id": "x"}, "eos_token_id is 'x'"),
        ({"stop_strings": []}, "stop_strings is []"),
        ({"stop_strings": ["a", None]}, "stop_strings is ['a', None]"),
        ({"stop": ["\n"]}, "stop is of type list"),
        ({"generation_config": {"temperature": 1}}, "generation_config is of type dict"),
        ({"logits_processor": max}, "logits_processor is no list"),
        ({"logits_processor": [5]}, "generate refuses"),
        ({"assistant_model": 5}, "generate refuses"),
        ({"watermarking_config": 5}, "generate refuses"),
        ({"custom_generate": "somebody/code"}, "would run code"),
        ({"trust_remote_code": True}, "would run code"),
    ],
)
def test_what_cannot_work_is_one_sentence(loaded, options, words):
    assert words in refusal(loaded, **options)


def test_the_models_own_settings_are_looked_at(loaded, monkeypatch):
    model, _ = loaded
    monkeypatch.setattr(model.generation_config, "num_beams", 4)
    assert "num_beams=4" in refusal(loaded)
    assert list(stream_chat(*loaded, user("x"), num_beams=1, max_new_tokens=3))


def test_a_stop_string_ends_the_turn(loaded, monkeypatch):
    model, tokenizer = loaded
    says(model, monkeypatch, tokenizer.encode("one 1 two 2 three 3 four"))
    stream = stream_chat(*loaded, user("x"), stop_strings=["two"], do_sample=False, repetition_penalty=1.0)
    assert "".join(stream) == "one 1 two"
    assert stream.finish_reason == "stop"


def forbid_nothing(input_ids, scores):
    """A logits processor of the caller."""
    return scores


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1, "num_return_sequences": 1, "use_cache": True},
        {"top_k": 5, "top_p": 0.9, "temperature": 0.3, "do_sample": True},
        {"prompt_lookup_num_tokens": 3, "do_sample": False},
        {"logits_processor": [forbid_nothing], "do_sample": False},
        {"logits_processor": LogitsProcessorList([forbid_nothing]), "do_sample": False},
        {"generation_config": GenerationConfig(do_sample=False, eos_token_id=[5, 6])},
        {"suppress_tokens": [10, 11, 12], "do_sample": False},
        {"min_new_tokens": 12, "do_sample": False},
        {"return_dict_in_generate": True, "output_scores": True, "do_sample": False},
        {"eos_token_id": 7, "do_sample": False},
        {"eos_token_id": None, "do_sample": False},
    ],
)
def test_what_works_says_what_generate_says(loaded, options):
    model, tokenizer = loaded
    inputs = encode_chat(tokenizer, user("hello"))
    prompt_tokens = inputs["input_ids"].shape[1]
    torch.manual_seed(3)
    output = model.generate(**inputs, max_new_tokens=12, **options)
    if not isinstance(output, torch.Tensor):
        output = output.sequences
    expected = output[0, prompt_tokens:]
    torch.manual_seed(3)
    stream = stream_chat(model, tokenizer, user("hello"), max_new_tokens=12, **options)
    assert "".join(stream) == tokenizer.decode(expected, skip_special_tokens=True)
    assert stream.new_tokens == len(expected)


@pytest.mark.parametrize(
    ("eos_token_id", "expected"), [(None, []), (3, [3]), ([3, 4], [3, 4]), (torch.tensor([3, 4]), [3, 4])]
)
def test_the_tokens_that_end_a_turn(eos_token_id, expected):
    config = GenerationConfig()
    config.eos_token_id = eos_token_id
    assert end_tokens(config) == expected


def test_a_model_without_a_limit_takes_any_length(loaded, monkeypatch):
    model, tokenizer = loaded
    assert context_tokens(model) == 600
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=7))
    assert context_tokens(SimpleNamespace(config=config)) is None
    monkeypatch.setattr(streaming, "context_tokens", lambda _: None)
    stream = stream_chat(model, tokenizer, user("x"), max_new_tokens=3, do_sample=False, eos_token_id=-1)
    list(stream)
    assert stream.new_tokens == 3
