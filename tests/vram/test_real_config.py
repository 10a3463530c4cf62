"""The real model in figures: its config, its parameters, its files, and the closed form of notebook 02.

The full-size model is only ever built on `meta`.
"""

import ast
import hashlib
import json
import random
from math import prod
from pathlib import Path

import pytest

from helpers import vram
from helpers.vram.ledger import round_up

NOTEBOOK = Path(__file__).parents[2] / "notebooks/en/02_vram.ipynb"
CONFIG_SHA256 = "b3e9fc1ad643d12f6536dee80a66c5ea045b571856165a598252720b6f2c553e"
#: Bytes of the eight files on the hub.
FILES = [3999614664, 3999385424, 3988628968, 3999386088, 3988629648, 3999386104, 3988629648, 668484400]
LARGEST_FILE = 4 * 10**9


def test_config_is_the_official_one_byte_for_byte():
    content = vram.REAL_CONFIG.read_bytes()
    assert len(content) == 920
    assert hashlib.sha256(content).hexdigest() == CONFIG_SHA256


def mlp_tensors(prefix: str, width: int, hidden: int):
    """Names and shapes of one MLP."""
    yield f"{prefix}.gate_proj.weight", [width, hidden]
    yield f"{prefix}.up_proj.weight", [width, hidden]
    yield f"{prefix}.down_proj.weight", [hidden, width]


def layer_tensors(prefix: str, config):
    """Names and shapes of one layer in the official checkpoint."""
    hidden = config.hidden_size
    for part in "qkv":
        yield f"{prefix}.self_attn.{part}_proj.weight", [hidden, hidden]
        yield f"{prefix}.self_attn.{part}_proj.bias", [hidden]
    yield f"{prefix}.self_attn.o_proj.weight", [hidden, hidden]
    yield f"{prefix}.mlp.gate.weight", [config.num_experts, hidden]
    for expert in range(config.num_experts):
        yield from mlp_tensors(f"{prefix}.mlp.experts.{expert}", config.moe_intermediate_size, hidden)
    width = config.shared_expert_intermediate_size
    yield from mlp_tensors(f"{prefix}.mlp.shared_expert", width, hidden)
    yield f"{prefix}.mlp.shared_expert_gate.weight", [1, hidden]
    yield f"{prefix}.input_layernorm.weight", [hidden]
    yield f"{prefix}.post_attention_layernorm.weight", [hidden]


def checkpoint_tensors(config):
    """Names and shapes in the official checkpoint, in the order in which its files were filled."""
    yield "model.embed_tokens.weight", [config.vocab_size, config.hidden_size]
    for layer in range(config.num_hidden_layers):
        yield from layer_tensors(f"model.layers.{layer}", config)
    yield "model.norm.weight", [config.hidden_size]
    yield "lm_head.weight", [config.vocab_size, config.hidden_size]


def file_size(tensors: list) -> int:
    """Bytes of a safetensors file with these bf16 tensors: length field, header, numbers."""
    header = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(tensors):
        start = end
        end = start + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"))
    return 8 + round_up(len(text), 8) + end


def test_parameters_and_checkpoint_to_the_byte():
    config = vram.load_config("real")
    model = vram.meta_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_315_784_192
    files = [[]]
    filled = 0
    for name, shape in checkpoint_tensors(config):
        size = 2 * prod(shape)
        if filled + size > LARGEST_FILE:
            files.append([])
            filled = 0
        files[-1].append((name, shape))
        filled += size
    assert sum(len(tensors) for tensors in files) == 4659
    assert [file_size(tensors) for tensors in files] == FILES
    assert sum(FILES) == 28_632_144_944


def notebook_functions(*names: str) -> dict:
    """Functions as they stand in notebook 02, with the sizes that it gives them, by name."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    config = vram.load_config("real")
    scope = {
        "config": config,
        "a": 2,  # bytes of a number
        "h": config.hidden_size,
        "i": config.moe_intermediate_size,
        "k": config.num_experts_per_tok,
        "kv_width": config.num_key_value_heads * config.hidden_size // config.num_attention_heads,
    }
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        for node in ast.parse("".join(cell["source"])).body:
            if isinstance(node, ast.FunctionDef) and node.name in names:
                exec(ast.unparse(node), scope)
    return {name: scope[name] for name in names}


def real_config_with(layers: int):
    """The real model's config with fewer layers."""
    config = vram.load_config("real")
    config.num_hidden_layers = layers
    config.layer_types = config.layer_types[:layers]
    return config


def layers_on_gpu_1(layers: int) -> dict[str, int]:
    """A placement with the embedding on GPU 0 and everything else on GPU 1."""
    placement = {"model.embed_tokens": 0, "model.rotary_emb": 1, "model.norm": 1, "lm_head": 1}
    for layer in range(layers):
        placement[f"model.layers.{layer}"] = 1
    return placement


@pytest.mark.skipif(not NOTEBOOK.is_file(), reason="the notebook is not there")
def test_closed_form_of_the_notebook_agrees_with_the_forecast():
    by_hand = notebook_functions("kv_bytes", "prefill_bytes", "decode_bytes")
    draw = random.Random(2024)
    worst = 0
    for _ in range(100):
        layers = draw.randint(2, 3)
        first = draw.random() < 0.5
        request = {
            "batch": draw.choice([1, 2, 4, 8]),
            "prompt": int(2 ** draw.uniform(8, 13)),
            "new": draw.randint(2, 1024),
        }
        config = real_config_with(layers)
        placement = {"model": 0, "lm_head": 0}
        gpu = 0
        if not first:
            placement = layers_on_gpu_1(layers)
            gpu = 1
        exact = vram.simulate(vram.meta_model(config), placement, **request)
        prompt_only = {"batch": request["batch"], "prompt": request["prompt"]}
        hand = {
            "prefill": by_hand["prefill_bytes"](layers, first=first, **prompt_only),
            "decode": by_hand["decode_bytes"](layers, first=first, **request),
        }
        for phase in ("prefill", "decode"):
            error = hand[phase] / exact[phase][gpu] - 1
            worst = max(worst, abs(error))
            assert abs(error) <= 0.01, (phase, error, layers, first, request)
    print(f"closed form: worst {worst:.4%}")
