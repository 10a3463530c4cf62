"""The config of a model, read and checked: what the forecast knows, and one sentence for everything else.

A forecast of a model that it does not understand would be a wrong number. So there is one list of the kinds
of models whose forecasts are compared with real runs (`tests/vram/test_forecast_architectures.py`), and every
other config is refused before any work is done. No network, and no code from outside.
"""

import json
from pathlib import Path

from transformers import AutoConfig

from helpers import CourseError
from helpers.model_names import resolve

#: The official config.json of Qwen1.5-MoE-A2.7B-Chat, byte for byte.
REAL_CONFIG = Path(__file__).parent / "qwen1.5-moe-a2.7b-chat.config.json"

#: What its generation_config.json makes generate() do with the scores; sampling is on there.
REAL_GENERATION = {"repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8}

#: `model_type` of the models that the forecast knows: decoders with a growing KV cache in every layer.
SUPPORTED = (
    "bloom",
    "cohere",
    "cohere2",
    "deepseek_v2",
    "deepseek_v3",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "granite",
    "granitemoe",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "olmoe",
    "opt",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "stablelm",
    "starcoder2",
)
CACHED_LAYERS = ("full_attention", "sliding_attention", "chunked_attention")
DTYPES = ("bfloat16", "float16", "float32")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
EXPERTS = ("grouped_mm", "batched_mm", "eager")

#: What may not be missing in a config, by the name that transformers gives it, with the largest value that
#: makes sense. The second name is what the files of some models call it.
SIZES = {
    "vocab_size": 10**7,
    "hidden_size": 10**6,
    "num_hidden_layers": 1000,
    "num_attention_heads": 10_000,
}
#: Sizes that may be missing, null or 0, because the model then has a rule of its own.
OPTIONAL_SIZES = {
    "num_key_value_heads": 10_000,
    "head_dim": 10**5,
    "intermediate_size": 10**7,
    "max_position_embeddings": 10**9,
    "sliding_window": 10**9,
    "moe_intermediate_size": 10**7,
    "shared_expert_intermediate_size": 10**7,
    "num_experts": 10_000,
    "num_local_experts": 10_000,
    "n_routed_experts": 10_000,
    "num_experts_per_tok": 10_000,
}
#: Names that the files of some models have for the same.
OTHER_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
LANGUAGE_MODELS = ("CausalLM", "LMHeadModel")  # what the names of classes that write text end with


def load_config(model: str | Path):
    """Config of a model: a folder or config.json, or a name that `helpers.model_names.resolve` knows.

    Returns a transformers config. CourseError if there is none, it is damaged, or the model is of a kind that
    the forecast does not know.
    """
    path = config_file(model)
    raw = read_json(path)
    kind = raw.get("model_type")
    if not isinstance(kind, str):
        raise CourseError(f"{path} does not say its model_type: give the config.json of a language model.")
    refuse_unknown_kind(raw, kind)
    for name, value in raw.items():
        check_size(OTHER_NAMES.get(name, name), value)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever transformers finds, the learner gets one sentence
        raise CourseError(f"transformers cannot read {path}: {one_line(error)}") from error
    check_config(config)
    return config


def config_file(model: str | Path) -> Path:
    """The config.json that a learner's word for a model means."""
    if Path(model) == REAL_CONFIG:
        return REAL_CONFIG
    name = resolve(model)
    if name.is_real:
        return REAL_CONFIG
    if name.folder is None:
        raise CourseError(
            f"The config of {name.model_id} is not on this machine: download the model and give its folder, "
            "or give real or embedded."
        )
    file = name.folder / "config.json"
    if not file.is_file():
        raise CourseError(f"{name.folder} has no config.json: give a model folder, real or embedded.")
    return file


def read_json(path: Path) -> dict:
    """A JSON object from a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CourseError(f"{path} cannot be read: {one_line(error)}: copy it again.") from error
    if not isinstance(content, dict):
        raise CourseError(f"{path} is no JSON object, so it is no config: copy it again.")
    return content


def one_line(error: BaseException) -> str:
    """What an error says, on one line and not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines)[:300]


def refuse_unknown_kind(settings: dict, kind: str) -> None:
    """CourseError for every model that is not known, with the reason where the config tells one."""
    reason = ""
    if settings.get("is_encoder_decoder"):
        reason = ", an encoder with a decoder"
    elif "vision_config" in settings or "audio_config" in settings or "text_config" in settings:
        reason = ", which has parts beside its text decoder"
    elif set(settings.get("layer_types") or ()) - set(CACHED_LAYERS):
        reason = ", which has layers without a KV cache that grows"
    if reason or kind not in SUPPORTED:
        known = ", ".join(SUPPORTED)
        raise CourseError(
            f"The forecast does not know models of the type {kind}{reason}; it knows decoders of the types "
            f"{known}."
        )
    if settings.get("quantization_config"):
        raise CourseError(
            "This model is quantized, and the forecast knows only unquantized weights: give the folder of "
            "the unquantized model, or take the size of the quantized files for the weights."
        )
    classes = settings.get("architectures")
    if classes and not any(str(name).endswith(LANGUAGE_MODELS) for name in classes):
        raise CourseError(
            f"{classes[0]} writes no text: the forecast knows causal language models, such as "
            "Qwen2MoeForCausalLM."
        )


def check_size(name: str, value) -> None:
    """CourseError if a setting of this name is no size that makes sense; other settings are not looked at."""
    optional = name in OPTIONAL_SIZES
    largest = SIZES.get(name) or OPTIONAL_SIZES.get(name)
    if largest is None or (optional and value in (None, 0)):
        return
    if isinstance(value, bool) or not isinstance(value, int):
        fault = f"{json.dumps(value, default=str)}, not a whole number"
    elif value < 1:
        fault = f"{value:,}, less than 1"
    elif value > largest:
        fault = f"{value:,}, more than the {largest:,} that make sense"
    else:
        return
    raise CourseError(f"The config is damaged: {name} is {fault}; compare it with the original config.json.")


def check_config(config) -> None:
    """CourseError for a config that the forecast does not know, or whose sizes contradict each other."""
    settings = config.to_dict()
    refuse_unknown_kind(settings, str(config.model_type))
    for name in SIZES:
        check_size(name, getattr(config, name, None))
    for name in OPTIONAL_SIZES:
        check_size(name, getattr(config, name, None))
    for fault in contradictions(config):
        raise CourseError(f"The config is damaged: {fault}; compare it with the original config.json.")


def contradictions(config) -> list[str]:
    """Sizes of a config that cannot be true together, one sentence each."""
    found = []
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    if heads % kv_heads:
        found.append(f"{heads} attention heads cannot share {kv_heads} heads of keys and values evenly")
    if not getattr(config, "head_dim", None) and config.hidden_size % heads:
        found.append(f"hidden_size {config.hidden_size} is no multiple of {heads} attention heads")
    chosen = getattr(config, "num_experts_per_tok", None) or 0
    for name in EXPERT_COUNTS:
        experts = getattr(config, name, None)
        if experts and chosen > experts:
            found.append(f"num_experts_per_tok is {chosen}, more than the {experts} experts of a layer")
    kinds = getattr(config, "layer_types", None)
    if kinds and len(kinds) != config.num_hidden_layers:
        found.append(f"layer_types names {len(kinds)} layers, num_hidden_layers {config.num_hidden_layers}")
    return found


def load_generation_settings(model: str | Path) -> dict:
    """What generate() does by default with a model: its generation_config.json, if it has one.

    Returns those settings that need memory, such as repetition_penalty, top_k and top_p.
    """
    path = config_file(model)
    if path == REAL_CONFIG:
        return dict(REAL_GENERATION)
    file = path.parent / "generation_config.json"
    if not file.is_file():
        return {}
    settings = read_json(file)
    return {name: settings[name] for name in REAL_GENERATION if settings.get(name) is not None}


def context_limit(config) -> int | None:
    """How many tokens the model was made for, prompt and answer together; None for no limit."""
    return getattr(config, "max_position_embeddings", None) or None


def check_choices(dtype: str, attention: str, experts: str) -> None:
    """CourseError for a dtype or an implementation that the forecast does not know."""
    for name, value, known in (
        ("dtype", dtype, DTYPES),
        ("attention", attention, ATTENTIONS),
        ("experts", experts, EXPERTS),
    ):
        if value not in known:
            raise CourseError(f"The forecast does not know the {name} {value!r}: take {', '.join(known)}.")
