"""A model without its weights: on PyTorch's `meta` device tensors have a shape, and take no memory."""

from pathlib import Path

from helpers.environment import ModelSize, size_from_parameters
from helpers.environment.model_config import EXPERT_COUNTS
from helpers.environment.model_kind import settings_to_load
from helpers.inference.errors import cannot_load


def read_config(model_dir: Path):
    """The config of a model folder; CourseError when it makes no sense, or is that of quantized weights."""
    from transformers import AutoConfig  # imported late: it takes seconds

    settings_to_load(model_dir)
    try:
        return AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    except Exception as error:  # whatever a damaged config causes somewhere inside
        raise cannot_load(model_dir, error) from error


def meta_model(model_dir: Path, dtype: str):
    """The model of a folder without its weights, on PyTorch's meta device. CourseError if there is none."""
    import torch  # imported late, as transformers: it takes seconds
    from transformers import AutoModelForCausalLM

    config = read_config(model_dir)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                config, dtype=getattr(torch, dtype), trust_remote_code=False
            )
    except Exception as error:  # whatever a config that makes no sense causes somewhere inside
        raise cannot_load(model_dir, error) from error


def size_of(name: str, model) -> ModelSize:
    """The size of a model block by block, from its parameters; it may be on meta."""
    config = model.config.get_text_config()
    experts = next((getattr(config, key) for key in EXPERT_COUNTS if getattr(config, key, None)), 0)
    chosen = getattr(config, "num_experts_per_tok", None) or 0
    parameters = [(key, parameter.numel()) for key, parameter in model.named_parameters()]
    return size_from_parameters(name, parameters, experts, chosen)
