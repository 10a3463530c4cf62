"""A checkpoint of full size that takes no disk: real headers and an index, and holes instead of numbers.

The tensors stand in the order of the model's parameters, are cut into shards of at most 4 * 10^9 bytes as
`save_pretrained` did it, and are sorted by name inside a shard as safetensors does it. The shards of
Qwen1.5-MoE-A2.7B-Chat then have the published sizes, to the byte. Every number that is read from them is 0.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from helpers import EMBEDDED_MODEL

CONFIG = Path(__file__).parents[2] / "helpers" / "vram" / "qwen1.5-moe-a2.7b-chat.config.json"
LARGEST_SHARD = 4 * 10**9  # bytes of tensors
BYTES = 2  # of a number in bf16
ALIGNMENT = 8  # bytes; a header ends at a multiple of it

#: What a folder needs besides weights and config; the embedded model's tokenizer stands in for the real one.
FROM_THE_EMBEDDED_MODEL = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)

Tensor = tuple[str, list[int]]  # name and shape


def tensors_of(config: dict) -> Iterator[Tensor]:
    """Every tensor of a Qwen2-MoE, in the order of its parameters, as hubs store them: expert by expert."""
    hidden = config["hidden_size"]
    vocabulary = [config["vocab_size"], hidden]
    yield "model.embed_tokens.weight", vocabulary
    for layer in range(config["num_hidden_layers"]):
        for name, shape in tensors_of_layer(config):
            yield f"model.layers.{layer}.{name}", shape
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", vocabulary


def tensors_of_layer(config: dict) -> Iterator[Tensor]:
    """The tensors of one layer: attention, router, experts, shared expert, norms."""
    hidden = config["hidden_size"]
    for name, heads in (
        ("q", config["num_attention_heads"]),
        ("k", config["num_key_value_heads"]),
        ("v", config["num_key_value_heads"]),
    ):
        width = hidden // config["num_attention_heads"] * heads
        yield f"self_attn.{name}_proj.weight", [width, hidden]
        yield f"self_attn.{name}_proj.bias", [width]
    yield "self_attn.o_proj.weight", [hidden, hidden]
    yield "mlp.gate.weight", [config["num_experts"], hidden]
    for expert in range(config["num_experts"]):
        yield from tensors_of_mlp(f"mlp.experts.{expert}", hidden, config["moe_intermediate_size"])
    yield from tensors_of_mlp("mlp.shared_expert", hidden, config["shared_expert_intermediate_size"])
    yield "mlp.shared_expert_gate.weight", [1, hidden]
    yield "input_layernorm.weight", [hidden]
    yield "post_attention_layernorm.weight", [hidden]


def tensors_of_mlp(name: str, hidden: int, width: int) -> Iterator[Tensor]:
    """The three matrices of an expert of this width."""
    yield f"{name}.gate_proj.weight", [width, hidden]
    yield f"{name}.up_proj.weight", [width, hidden]
    yield f"{name}.down_proj.weight", [hidden, width]


def size_of(shape: list[int]) -> int:
    """Bytes of a tensor."""
    count = 1
    for length in shape:
        count *= length
    return count * BYTES


def cut_into_shards(tensors: Iterator[Tensor], largest: int = LARGEST_SHARD) -> list[list[Tensor]]:
    """Fill one shard after the other; a tensor that would make it too large begins the next one."""
    shards = [[]]
    size = 0
    for name, shape in tensors:
        if size + size_of(shape) > largest:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += size_of(shape)
    return shards


def write_shard(path: Path, tensors: list[Tensor]) -> None:
    """A safetensors file whose numbers are a hole: of full length, on the disk as long as its header."""
    entries = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(tensors):
        start = end
        end += size_of(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        file.truncate(8 + len(header) + end)


def write_checkpoint(folder: Path, config_text: str = "", largest: int = LARGEST_SHARD) -> list[Path]:
    """Write a whole model folder and return its shards, of at most so many bytes of tensors.

    `config_text`: a config.json of the same class; without it that of Qwen1.5-MoE-A2.7B-Chat.
    """
    if not config_text:
        config_text = CONFIG.read_text()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config_text)
    for name in FROM_THE_EMBEDDED_MODEL:
        shutil.copyfile(EMBEDDED_MODEL / name, folder / name)
    shards = cut_into_shards(tensors_of(json.loads(config_text)), largest)
    paths = []
    weight_map = {}
    total = 0
    for number, tensors in enumerate(shards, 1):
        path = folder / f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_shard(path, tensors)
        paths.append(path)
        for name, shape in tensors:
            weight_map[name] = path.name
            total += size_of(shape)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return paths


def disk_used(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk; holes take none."""
    return sum(os.stat(file).st_blocks * 512 for file in folder.rglob("*") if file.is_file())
