"""A checkpoint with random bf16 weights in the hub's layout, for measurements that need no trained model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from helpers import EMBEDDED_MODEL, vram

FILE_BYTES = 4 * 10**9  # a new file of the checkpoint begins before this is exceeded
END_TOKEN_SPREAD = 3  # times as long a row of lm_head: one token in a dozen ends the answer
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def checkpoint_tensors(config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the hub's layout, with one tensor per expert and projection."""
    hidden = config.hidden_size
    width = config.moe_intermediate_size
    projections = {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
    for name, parameter in vram.meta_model(config).named_parameters():
        if name.endswith("experts.gate_up_proj"):
            for expert in range(config.num_experts):
                for part, shape in projections.items():
                    yield name.replace("gate_up_proj", f"{expert}.{part}_proj.weight"), shape
        elif not name.endswith("experts.down_proj"):
            yield name, tuple(parameter.shape)


def bf16_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of a bf16 tensor."""
    return 2 * torch.Size(shape).numel()


def split_into_files(tensors, file_bytes: int) -> list[list]:
    """Lists of (name, shape), one for each file of the checkpoint."""
    files = [[]]
    free = file_bytes
    for name, shape in tensors:
        size = bf16_bytes(shape)
        if size > free and files[-1]:
            files.append([])
            free = file_bytes
        files[-1].append((name, shape))
        free -= size
    return files


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Ones for a norm, else random numbers as in a model before training."""
    if "norm" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)


def write_checkpoint(
    folder: Path, config, file_bytes: int = FILE_BYTES, end_token: int | None = None
) -> None:
    """Random bf16 weights in several files with an index, one file in memory at a time.

    `config`: the configuration of a Qwen2-MoE, as transformers reads it. The tokenizer is the embedded
    model's. `end_token`: its score is spread more widely than that of other tokens, so that answers end after
    some dozens of tokens; without it a random model writes until it is stopped.
    """
    files = split_into_files(checkpoint_tensors(config), file_bytes)
    generator = torch.Generator().manual_seed(0)
    weight_map = {}
    total = 0
    for number, entries in enumerate(tqdm(files, desc="random weights", unit="file", leave=False), 1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        tensors = {name: random_tensor(name, shape, generator) for name, shape in entries}
        if end_token is not None and "lm_head.weight" in tensors:
            tensors["lm_head.weight"][end_token] *= END_TOKEN_SPREAD
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, file))
        total += sum(bf16_bytes(shape) for _, shape in entries)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (EMBEDDED_MODEL / name).is_file():
            shutil.copy(EMBEDDED_MODEL / name, folder)
