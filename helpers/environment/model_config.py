"""What a config.json must not say, found out before any package reads it. Standard library only.

The environment check, the forecast and the loader read a model's config through these functions, so that the
three refuse the same folder for the same reason.
"""

import json
from pathlib import Path

from helpers import CourseError
from helpers.language import listed, say

#: Sizes that no decoder does without, by the name that transformers gives them, and the largest value that
#: makes sense.
SIZES = {
    "vocab_size": 10**7,
    "hidden_size": 10**6,
    "num_hidden_layers": 1000,
    "num_attention_heads": 10_000,
}
#: Sizes that may be missing or null, because the model then has a rule of its own.
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
    "n_shared_experts": 10_000,
    "n_group": 10_000,
    "topk_group": 10_000,
    "decoder_sparse_step": 1000,
    "q_lora_rank": 10**5,
    "kv_lora_rank": 10**5,
    "qk_rope_head_dim": 10**5,
    "qk_nope_head_dim": 10**5,
    "v_head_dim": 10**5,
}
#: What configs call the number of routed experts in a layer.
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
#: Sizes that are 0 where a model does without that part: experts, the shared expert, the window.
MAY_BE_ZERO = (
    *EXPERT_COUNTS,
    "num_experts_per_tok",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "n_shared_experts",
    "sliding_window",
)
#: Names that the files of some models have for the same.
OTHER_NAMES = {
    "n_embd": "hidden_size",
    "n_embed": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
}
SHOWN = 100  # characters of a wrong value
DTYPES = ("bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2")
#: Kinds of rotary positions that transformers knows -> what each must have.
ROPE_TYPES = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "proportional": (),
    "su": ("short_factor", "long_factor"),  # older name of longrope
    "mrope": (),
}
ROPE_NUMBERS = (
    "rope_theta",
    "factor",
    "attention_factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
)
LARGEST_NUMBER = 10**15
ROPE_LISTS = ("short_factor", "long_factor")
#: Settings, and files beside config.json, in which tools that quantize say so.
QUANTIZED_SETTINGS = ("quantization_config", "compression_config")
QUANTIZED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")


def read_settings(path: Path) -> dict:
    """The JSON object in a file such as config.json; CourseError if it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        sentence = say("{path} cannot be read: {reason}: copy it again.", path=path, reason=error.strerror)
        raise CourseError(sentence) from error
    except json.JSONDecodeError as error:
        sentence = say("{path} is no JSON, see its line {line}: copy it again.", path=path, line=error.lineno)
        raise CourseError(sentence) from error
    except (ValueError, RecursionError) as error:
        raise CourseError(say("{path} is no JSON: copy it again.", path=path)) from error
    if not isinstance(content, dict):
        raise CourseError(say("{path} is no JSON object, so it is no config: copy it again.", path=path))
    return content


def is_quantized(settings: dict, folder: Path | None = None) -> bool:
    """Whether weights are quantized, by the config or by another file of the model folder."""
    if any(settings.get(name) is not None for name in QUANTIZED_SETTINGS):
        return True
    return folder is not None and any((folder / name).is_file() for name in QUANTIZED_FILES)


def check_settings(settings: dict) -> None:
    """CourseError if sizes, dtype or rotary positions in these settings make no sense."""
    check_sizes(settings)
    check_dtype(settings)
    check_rope(settings)


def check_dtype(settings: dict) -> None:
    """CourseError if the dtype is not the name of one."""
    for name in ("dtype", "torch_dtype"):
        value = settings.get(name)
        if value is not None and value not in DTYPES:
            sentence = say(
                "{name} is {value}, not one of {known}", name=name, value=show(value), known=listed(DTYPES)
            )
            raise damaged_config(sentence)


def check_rope(settings: dict) -> None:
    """CourseError if what the settings say of the rotary positions is of a wrong kind."""
    check_rope_number("rope_theta", settings.get("rope_theta"))
    for name in ("rope_scaling", "rope_parameters"):
        value = settings.get(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise damaged_config(
                say("{name} is {value}, not an object in braces", name=name, value=show(value))
            )
        parts = [value]
        if value and all(isinstance(part, dict) for part in value.values()):
            parts = list(value.values())  # one for each kind of layer, as Gemma 3 has them
        for part in parts:
            check_rope_part(name, part)


def check_rope_part(name: str, part: dict) -> None:
    """CourseError if one object of rotary positions has an unknown type, or lacks what its type needs."""
    kind = part.get("rope_type", part.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_TYPES:
        raise damaged_config(
            say(
                "{name} is of the type {value}, not one of {known}",
                name=name,
                value=show(kind),
                known=listed(list(ROPE_TYPES)),
            )
        )
    missing = [key for key in ROPE_TYPES[kind] if part.get(key) is None]
    if missing:
        raise damaged_config(
            say("{name} of the type {kind} has no {missing}", name=name, kind=kind, missing=listed(missing))
        )
    for key in ROPE_NUMBERS:
        check_rope_number(f"{name}.{key}", part.get(key))
    for key in ROPE_LISTS:
        numbers = part.get(key)
        if numbers is not None and not (isinstance(numbers, list) and all(map(is_number, numbers))):
            raise damaged_config(
                say("{name} is {value}, not a list of numbers", name=f"{name}.{key}", value=show(numbers))
            )


def check_rope_number(name: str, value) -> None:
    """CourseError if a setting of the rotary positions is there, and is no number above 0."""
    if value is not None and not (is_number(value) and value > 0):
        raise damaged_config(say("{name} is {value}, not a number above 0", name=name, value=show(value)))


def is_number(value) -> bool:
    """Whether a value of JSON is a number that makes sense: not infinite, and not "not a number"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST_NUMBER


def show(value) -> str:
    """A value as the config has it, and not too long."""
    return json.dumps(value, default=str, ensure_ascii=False)[:SHOWN]


def check_sizes(settings: dict) -> None:
    """CourseError if a size in these settings makes no sense, or the experts contradict each other."""
    for name, value in settings.items():
        check_size(OTHER_NAMES.get(name, name), value)
    fault = experts_fault(settings)
    if fault:
        raise damaged_config(fault)


def check_size(name: str, value) -> None:
    """CourseError if a setting of this name is no size that makes sense; other settings are not looked at.

    A list has one size for each layer, which some models do; whether this one does, transformers knows.
    """
    largest = SIZES.get(name) or OPTIONAL_SIZES.get(name)
    if largest is None or isinstance(value, list) or (value is None and name in OPTIONAL_SIZES):
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise damaged_config(say("{name} is {value}, not a whole number", name=name, value=show(value)))
    smallest = 1
    if name in MAY_BE_ZERO:
        smallest = 0
    if value < smallest:
        fault = say("{name} is {value:,}, less than {least}", name=name, value=value, least=smallest)
        raise damaged_config(fault)
    if value > largest:
        fault = say(
            "{name} is {value:,}, more than the {most:,} that make sense",
            name=name,
            value=value,
            most=largest,
        )
        raise damaged_config(fault)


def experts_fault(settings: dict) -> str:
    """How the numbers of experts contradict each other; "" if they do not. The sizes are checked already."""
    chosen = settings.get("num_experts_per_tok")
    for name in EXPERT_COUNTS:
        experts = settings.get(name)
        if experts is None:
            continue
        if chosen is not None and chosen > experts:
            return say(
                "num_experts_per_tok is {chosen}, more than the {experts} experts of a layer",
                chosen=chosen,
                experts=experts,
            )
        if experts and chosen == 0:
            return say("num_experts_per_tok is 0, although a layer has {experts} experts", experts=experts)
        if experts and settings.get("moe_intermediate_size") == 0:
            return say("moe_intermediate_size is 0, although a layer has {experts} experts", experts=experts)
    return ""


def damaged_config(fault: str) -> CourseError:
    """The sentence for a config that makes no sense."""
    return CourseError(
        say("The config is damaged: {fault}; compare it with the original config.json.", fault=fault)
    )
