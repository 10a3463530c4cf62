"""Models that the forecast does not know, and damaged configs: one sentence each, before any work."""

import json
import re
import time

import pytest
from profiled_runs import tiny
from transformers import (
    AutoConfig,
    BertConfig,
    JambaConfig,
    LlamaConfig,
    LlavaConfig,
    Mamba2Config,
    MambaConfig,
    Qwen3NextConfig,
    T5Config,
    WhisperConfig,
)

from helpers import CourseError, vram
from helpers.vram import configs

GPUS = ["24GiB"]
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
}
MOE = json.loads(vram.REAL_CONFIG.read_text(encoding="utf-8"))


@pytest.fixture
def folder_with(tmp_path):
    """A function: a model folder with these settings in its config.json."""

    def write(settings):
        text = json.dumps(settings)
        if isinstance(settings, str):
            text = settings
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def refusal(model) -> str:
    """The sentence with which a model is refused, at once."""
    start = time.process_time()
    with pytest.raises(CourseError) as error:
        vram.forecast(model, GPUS)
    assert time.process_time() - start < 20  # seconds of this process; it takes far less than one
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        T5Config(),
        WhisperConfig(),
        BertConfig(),
        MambaConfig(),
        Mamba2Config(),
        JambaConfig(),
        Qwen3NextConfig(),
        LlavaConfig(),
    ],
    ids=lambda config: config.model_type,
)
def test_a_kind_that_is_not_known(config):
    sentence = refusal(config)
    assert sentence.startswith(f"The forecast does not know models of the type {config.model_type}")
    assert "it knows decoders of the types bloom, cohere" in sentence


def test_a_known_kind_with_unknown_layers():
    config = LlamaConfig(num_hidden_layers=2)
    config.layer_types = ["full_attention", "linear_attention"]
    assert "layers without a KV cache that grows" in refusal(config)


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "bitsandbytes"])
def test_quantized_weights(method, folder_with):
    settings = {**MOE, "quantization_config": {"quant_method": method, "bits": 4}}
    assert refusal(folder_with(settings)).startswith("This model is quantized")


def test_a_model_that_writes_no_text(folder_with):
    settings = {**LLAMA, "architectures": ["LlamaForSequenceClassification"]}
    assert refusal(folder_with(settings)).startswith("LlamaForSequenceClassification writes no text")


DAMAGED = [
    ({"hidden_size": None}, "hidden_size is null, not a whole number"),
    ({"hidden_size": "64"}, 'hidden_size is "64", not a whole number'),
    ({"hidden_size": 64.0}, "hidden_size is 64.0, not a whole number"),
    ({"num_attention_heads": 0}, "num_attention_heads is 0, less than 1"),
    ({"num_hidden_layers": -3}, "num_hidden_layers is -3, less than 1"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1,000,000,000, more than the 1,000"),
    ({"vocab_size": True}, "vocab_size is true, not a whole number"),
    ({"vocab_size": 0}, "vocab_size is 0, less than 1"),
    ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 heads of keys and values evenly"),
    ({"num_key_value_heads": "4"}, 'num_key_value_heads is "4", not a whole number'),
    ({"head_dim": -8}, "head_dim is -8, less than 1"),
    ({"max_position_embeddings": "long"}, "max_position_embeddings"),
    ({"hidden_size": 66, "head_dim": None}, "66"),
    ({"hidden_act": "no such function"}, "no such function"),
    ({"rms_norm_eps": None}, "rms_norm_eps"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ({"torch_dtype": "float99"}, "float99"),
    ({"max_position_embeddings": 0}, "max_position_embeddings is 0, less than 1"),
    ({"intermediate_size": 0}, "intermediate_size is 0, less than 1"),
    ({"architectures": 5}, "architectures is 5, not a list of names"),
    ({"layer_types": 1.5}, "layer_types is 1.5, not a list of names"),
    ({"use_cache": "no"}, 'use_cache is "no", which transformers cannot use'),
    ({"model_type": "gemma2", "sliding_window": None}, "but there is no sliding_window"),
    ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
    ({"model_type": None}, "does not say its model_type"),
    ({"model_type": "no-such-model"}, "models of the type no-such-model"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGED, ids=lambda value: str(value)[:40])
def test_damaged_settings(damage, words, folder_with):
    assert words in refusal(folder_with({**LLAMA, **damage}))


DAMAGED_EXPERTS = [
    ({"num_experts_per_tok": 61}, "num_experts_per_tok is 61, more than the 60 experts of a layer"),
    ({"num_experts": -1}, "num_experts is -1, less than 0"),
    ({"num_experts": "60"}, 'num_experts is "60", not a whole number'),
    ({"moe_intermediate_size": -5}, "moe_intermediate_size is -5, less than 0"),
    ({"layer_types": ["full_attention"] * 3}, "layer_types"),
    ({"num_experts_per_tok": 0}, "num_experts_per_tok is 0, although a layer has 60 experts"),
    ({"num_experts": 0}, "num_experts_per_tok is 4, more than the 0 experts"),
    ({"moe_intermediate_size": 0}, "moe_intermediate_size is 0, although a layer has 60 experts"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGED_EXPERTS, ids=lambda value: str(value)[:40])
def test_damaged_settings_of_experts(damage, words, folder_with):
    assert words in refusal(folder_with({**MOE, **damage}))


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"])
def test_a_missing_size_is_not_that_of_another_model(name, folder_with):
    settings = {key: value for key, value in LLAMA.items() if key != name}
    assert f"it has no {name}" in refusal(folder_with(settings))


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_quantized_weights_of_which_another_file_tells(name, folder_with):
    folder = folder_with(LLAMA)
    (folder / name).write_text("{}")
    assert refusal(folder).startswith("This model is quantized")


def test_the_context_that_yarn_stretches():
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 1e4}
    assert configs.context_limit(tiny(max_position_embeddings=512, rope_parameters=rope)) == 2048


@pytest.mark.parametrize("ram", [None, 2 * vram.GIB])
def test_no_figure_of_a_memory_that_nobody_named(ram):
    sentence = vram.forecast("real", GPUS, ram=ram, prompt=16, new=2)["capacity"]
    assert "0.0 GB are free" not in sentence
    figures = re.findall(r"([0-9.]+) GiB", sentence)
    assert max(float(figure) for figure in figures) < 100


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "{}"])
def test_a_file_that_is_no_config(text, folder_with):
    refusal(folder_with(text))


def test_an_empty_folder(tmp_path):
    assert "has no config.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    "request_",
    [{"batch": 0}, {"prompt": -1}, {"new": 0}, {"batch": 1.5}, {"prompt": "long"}, {"no_such_setting": 1}],
    ids=str,
)
def test_requests_that_make_no_sense(request_):
    with pytest.raises(CourseError):
        vram.forecast(tiny(), GPUS, **request_)


def test_a_model_without_sdpa_gets_eager_and_the_verdict_says_so():
    config = AutoConfig.for_model("bloom", hidden_size=64, n_layer=2, n_head=4, vocab_size=1000)
    request = {"model": config, "gpus": GPUS, "prompt": 64, "new": 2}
    result = vram.forecast(**request)
    assert result["attention"] == "eager"
    sentence = vram.verdict(result, **request)
    assert "This model has no such attention: the figures are for eager." in sentence


def test_the_search_ends_at_the_models_context():
    config = tiny(max_position_embeddings=700)
    request = {"gpus": GPUS, "new": 100}
    assert vram.largest("prompt", config, **request) == 600
    assert vram.largest_in_memory("prompt", config, **request) > 10_000
    too_long = vram.forecast(config, **request, prompt=601)
    assert too_long["fits_memory"]
    assert not too_long["fits"]
    assert too_long["too_long"] == 1


def test_the_list_of_known_types_has_no_double():
    assert sorted(set(configs.SUPPORTED)) == list(configs.SUPPORTED)
