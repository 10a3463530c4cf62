"""The config of a model, read and checked: what the forecast knows, and one sentence for everything else.

A forecast of a model that it does not understand would be a wrong number. So there is one list of the kinds
of models whose forecasts are compared with real runs (`tests/vram/test_forecast_architectures.py`), and every
other config is refused before any work is done. No network, and no code from outside.
"""

import re
from pathlib import Path

from transformers import AutoConfig

from helpers import CourseError
from helpers.environment.model_config import (
    OPTIONAL_SIZES,
    OTHER_NAMES,
    SIZES,
    check_settings,
    check_size,
    damaged_config,
    experts_fault,
    is_quantized,
    read_settings,
    show,
)
from helpers.language import listed, say, to_say
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

#: What a kind of model is refused with.
UNKNOWN_KIND = to_say(
    "The forecast does not know models of the type {kind}; it knows decoders of the types {known}."
)
ENCODER = to_say(
    "The forecast does not know models of the type {kind}, an encoder with a decoder; "
    "it knows decoders of the types {known}."
)
MORE_THAN_TEXT = to_say(
    "The forecast does not know models of the type {kind}, which has parts beside its text decoder; "
    "it knows decoders of the types {known}."
)
OTHER_LAYERS = to_say(
    "The forecast does not know models of the type {kind}, which has layers without a KV cache that grows; "
    "it knows decoders of the types {known}."
)
OTHER_PARTS = ("vision_config", "audio_config", "text_config")
LANGUAGE_MODELS = ("CausalLM", "LMHeadModel")  # what the names of classes that write text end with


def load_config(model: str | Path):
    """Config of a model: a folder or config.json, or a name that `helpers.model_names.resolve` knows.

    Returns a transformers config. CourseError if there is none, it is damaged, or the model is of a kind that
    the forecast does not know.
    """
    path = config_file(model)
    raw = read_settings(path)
    kind = raw.get("model_type")
    if not isinstance(kind, str):
        raise CourseError(
            say("{path} does not say its model_type: give the config.json of a language model.", path=path)
        )
    refuse_unknown_kind(raw, kind, path.parent)
    check_settings(raw)
    refuse_missing_sizes(raw)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever transformers finds, the learner gets one sentence
        raise cannot_read(path, raw, error) from error
    check_config(config)
    return config


def refuse_missing_sizes(settings: dict) -> None:
    """CourseError if a size is missing: transformers would take that of the first model of the kind."""
    there = {OTHER_NAMES.get(name, name) for name in settings}
    missing = [name for name in SIZES if name not in there]
    if missing:
        raise damaged_config(say("it has no {names}", names=listed(missing)))


def cannot_read(path: Path, settings: dict, error: Exception) -> CourseError:
    """The sentence for a config that transformers refuses; it names the setting, where it is about one."""
    field = re.search(r"Validation error for field '(\w+)'", str(error))
    if field and field[1] in settings:
        value = show(settings[field[1]])
        fault = say("{name} is {value}, which transformers cannot use", name=field[1], value=value)
        return damaged_config(fault)
    return CourseError(say("transformers cannot read {path}: {reason}", path=path, reason=one_line(error)))


def config_file(model: str | Path) -> Path:
    """The config.json that a learner's word for a model means."""
    if Path(model) == REAL_CONFIG:
        return REAL_CONFIG
    name = resolve(model)
    if name.is_real:
        return REAL_CONFIG
    if name.folder is None:
        raise CourseError(
            say(
                "The config of {model_id} is not on this machine: download the model and give its folder, or "
                "give real or embedded.",
                model_id=name.model_id,
            )
        )
    file = name.folder / "config.json"
    if not file.is_file():
        raise CourseError(
            say("{folder} has no config.json: give a model folder, real or embedded.", folder=name.folder)
        )
    return file


def one_line(error: BaseException) -> str:
    """What an error says, on one line and not too long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines)[:300]


def refuse_unknown_kind(settings: dict, kind: str, folder: Path | None = None) -> None:
    """CourseError for every model that is not known, with the reason where the config tells one.

    `folder`: the model folder, whose other files may say that the weights are quantized.
    """
    for name in ("layer_types", "architectures"):
        check_names(name, settings.get(name))
    unknown = ""
    if settings.get("is_encoder_decoder"):
        unknown = ENCODER
    elif any(settings.get(part) is not None for part in OTHER_PARTS):
        unknown = MORE_THAN_TEXT
    elif set(settings.get("layer_types") or ()) - set(CACHED_LAYERS):
        unknown = OTHER_LAYERS
    elif kind not in SUPPORTED:
        unknown = UNKNOWN_KIND
    if unknown:
        raise CourseError(say(unknown, kind=kind, known=listed(SUPPORTED)))
    if is_quantized(settings, folder):
        raise CourseError(
            say(
                "This model is quantized, and the forecast knows only unquantized weights: give the folder "
                "of the unquantized model, or take the size of the quantized files for the weights."
            )
        )
    classes = settings.get("architectures")
    if classes and not any(name.endswith(LANGUAGE_MODELS) for name in classes):
        raise CourseError(
            say(
                "{name} writes no text: the forecast knows causal language models, such as "
                "Qwen2MoeForCausalLM.",
                name=classes[0],
            )
        )


def check_names(setting: str, names) -> None:
    """CourseError if a setting that lists names is something else."""
    if names and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise damaged_config(say("{name} is {value}, not a list of names", name=setting, value=show(names)))


def check_config(config) -> None:
    """CourseError for a config that the forecast does not know, or whose sizes contradict each other."""
    settings = config.to_dict()
    refuse_unknown_kind(settings, str(config.model_type))
    sizes = {name: getattr(config, name, None) for name in (*SIZES, *OPTIONAL_SIZES)}
    for name, value in sizes.items():
        check_size(name, value)
    for fault in (experts_fault(sizes), *contradictions(config)):
        if fault:
            raise damaged_config(fault)


def contradictions(config) -> list[str]:
    """Sizes of a config that cannot be true together, one sentence each."""
    found = []
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    if heads % kv_heads:
        found.append(
            say(
                "{heads} attention heads cannot share {shared} heads of keys and values evenly",
                heads=heads,
                shared=kv_heads,
            )
        )
    if not getattr(config, "head_dim", None) and config.hidden_size % heads:
        found.append(
            say(
                "hidden_size {size} is no multiple of {heads} attention heads",
                size=config.hidden_size,
                heads=heads,
            )
        )
    kinds = getattr(config, "layer_types", None) or []
    if kinds and len(kinds) != config.num_hidden_layers:
        found.append(
            say(
                "layer_types names {named} layers, num_hidden_layers {layers}",
                named=len(kinds),
                layers=config.num_hidden_layers,
            )
        )
    window = getattr(config, "sliding_window", None)
    if "sliding_attention" in kinds and not window:
        found.append(say("layer_types names layers with a sliding window, but there is no sliding_window"))
    elif window == 0 and getattr(config, "use_sliding_window", True):
        found.append(say("sliding_window is 0, so no token could look back"))
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
    settings = read_settings(file)
    return {name: settings[name] for name in REAL_GENERATION if settings.get(name) is not None}


def context_limit(config) -> int | None:
    """How many tokens the model was made for, prompt and answer together; None for no limit.

    YaRN stretches the context by a factor that max_position_embeddings need not contain.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if not limit:
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    original = rope.get("original_max_position_embeddings")
    if rope.get("rope_type") == "yarn" and original:
        limit = max(limit, int(rope["factor"] * original))
    return limit


def check_choices(dtype: str, attention: str, experts: str) -> None:
    """CourseError for a dtype or an implementation that the forecast does not know."""
    for sentence, value, known in (
        (to_say("The forecast does not know the dtype {value!r}: take {known}."), dtype, DTYPES),
        (to_say("The forecast does not know the attention {value!r}: take {known}."), attention, ATTENTIONS),
        (to_say("The forecast does not know the experts {value!r}: take {known}."), experts, EXPERTS),
    ):
        if value not in known:
            raise CourseError(say(sentence, value=value, known=listed(known)))
