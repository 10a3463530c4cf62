"""Models of full size with random weights, made on the GPU: no download, no file, nothing in RAM."""

from dataclasses import dataclass

import torch
from accelerate import dispatch_model, infer_auto_device_map
from transformers import AutoConfig, AutoModelForCausalLM, CompileConfig, Qwen2Config

from helpers import EMBEDDED_MODEL
from helpers.vram import REAL_CONFIG

#: Qwen1.5-7B, the dense model that the 1.74x of the official blog compares with (its config.json on the hub).
DENSE = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
TINY_DENSE = DENSE | {
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
}
SHARE_OF_A_CARD = 0.8  # for weights, of what is free; the rest is for the cache and intermediate results


@dataclass(frozen=True)
class Sizes:
    """What is measured: the two models, and how many tokens."""

    name: str
    moe: object
    dense: object
    batches: tuple[int, ...]
    prompt: int
    """Tokens; 1,000 as in the official comparison."""
    long_prompt: int
    """Tokens, for attention, which grows with their square."""
    new_tokens: int
    runs: int
    bandwidth_bytes: int
    """Bytes that are read to measure the memory: many times what a cache holds."""
    compile_config: CompileConfig


def full_sizes() -> Sizes:
    """The real model's shape and the dense one's beside it."""
    return Sizes(
        name="full size",
        moe=AutoConfig.from_pretrained(REAL_CONFIG),
        dense=Qwen2Config(**DENSE),
        batches=(1, 8, 32),
        prompt=1000,
        long_prompt=4000,
        new_tokens=64,
        runs=3,
        bandwidth_bytes=4 * 2**30,
        compile_config=CompileConfig(),
    )


def tiny_sizes() -> Sizes:
    """Seconds on a CPU: it tries the code, and its times mean nothing."""
    moe = AutoConfig.from_pretrained(EMBEDDED_MODEL)
    moe.num_hidden_layers = 2
    moe.layer_types = moe.layer_types[:2]
    return Sizes(
        name="tiny",
        moe=moe,
        dense=Qwen2Config(**TINY_DENSE),
        batches=(1, 2),
        prompt=12,
        long_prompt=24,
        new_tokens=4,
        runs=1,
        bandwidth_bytes=2**22,
        compile_config=CompileConfig(backend="eager", mode="default"),  # needs no compiler
    )


def random_model(config, device: str):
    """A model with random bf16 weights on `device`; on all GPUs where one cannot hold it.

    Nothing of it is ever on another device. Its answers mean nothing, and a GPU computes them as fast as
    others; but a router that was not trained may choose its experts more evenly than a trained one.
    """
    torch.manual_seed(0)
    if device == "cuda":
        empty = empty_model(config)
        room = room_on_gpus()
        if sum(parameter.nbytes for parameter in empty.parameters()) > room[0]:
            return split_model(empty, device_map_for(empty, room))
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def empty_model(config):
    """The model without numbers, on the meta device: names, shapes, sizes."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def room_on_gpus() -> dict[int, int]:
    """Bytes for weights on each GPU."""
    room = {}
    for gpu in range(torch.cuda.device_count()):
        room[gpu] = int(SHARE_OF_A_CARD * torch.cuda.mem_get_info(gpu)[0])
    return room


def device_map_for(empty, room: dict) -> dict[str, int | str]:
    """Which part of a model goes to which of the devices with so much room, in bytes; layers stay whole.

    Filled evenly, as `device_map="balanced"` does. MemoryError where they have too little room.
    """
    layer = type(empty.model.layers[0]).__name__
    weights = sum(parameter.nbytes for parameter in empty.parameters())
    largest = max(sum(weight.nbytes for weight in part.parameters()) for part in empty.model.layers)
    even = weights // len(room) + largest
    limits = {device: min(size, even) for device, size in room.items()}
    limits["cpu"] = limits.get("cpu", 0)
    places = infer_auto_device_map(empty, max_memory=limits, no_split_module_classes=[layer])
    if "disk" in places.values() or ("cpu" in places.values() and "cpu" not in room):
        raise MemoryError(
            f"The model has {weights / 2**30:.1f} GiB of weights, the GPUs have room for "
            f"{sum(room.values()) / 2**30:.1f} GiB."
        )
    return places


def split_model(empty, places: dict):
    """Give each part of a model on the meta device random weights where it belongs, and connect the parts."""
    for name, place in places.items():
        part = empty.get_submodule(name)
        part.to_empty(device=place)
        for weight_name, weight in part.named_parameters():
            if "norm" in f"{name}.{weight_name}":
                torch.nn.init.ones_(weight)
            else:
                torch.nn.init.normal_(weight, std=0.02)
    # Its table of angles is computed when it is made, and was lost on the meta device.
    rotary = empty.model.rotary_emb
    first = next(iter(places.values()))
    empty.model.rotary_emb = type(rotary)(empty.config).to(first)
    return dispatch_model(empty.eval(), places, force_hooks=True)
