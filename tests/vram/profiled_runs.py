"""Real runs of small models on the CPU, watched by PyTorch's profiler, and the forecasts of the same."""

import copy
import random

import torch
from transformers import AutoModelForCausalLM, Qwen2MoeConfig

from helpers import compat
from helpers.vram import meta_model, simulate
from helpers.vram.measuring import measured_peak, tell_routing, watch_routing


def tiny(**changes) -> Qwen2MoeConfig:
    """A small model of the course's architecture."""
    sizes = {
        "vocab_size": 1000,
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 88,
        "shared_expert_intermediate_size": 352,
    }
    return Qwen2MoeConfig(**{**sizes, **changes})


def draw_config(draw: random.Random) -> Qwen2MoeConfig:
    """A random small model."""
    heads = draw.choice([4, 8])
    return tiny(
        vocab_size=draw.choice([500, 2000]),
        hidden_size=draw.choice([64, 128, 256]),
        num_hidden_layers=draw.randint(1, 4),
        num_attention_heads=heads,
        num_key_value_heads=draw.choice([heads, heads, heads // 2, 1]),
        num_experts=draw.choice([4, 16, 20]),
        num_experts_per_tok=draw.choice([1, 2, 4]),
        moe_intermediate_size=draw.choice([40, 88, 128]),
        shared_expert_intermediate_size=draw.choice([64, 352]),
        tie_word_embeddings=draw.random() < 0.3,
    )


def draw_cases(seed: int, count: int) -> list[dict]:
    """Random models and requests; the first cases cover every attention and experts implementation."""
    draw = random.Random(seed)
    cases = []
    for number in range(count):
        config = draw_config(draw)
        batch = draw.choice([1, 2, 4, 8, 16])
        prompt = draw.randint(17, 257)
        experts = ("grouped_mm", "batched_mm", "eager")[number % 3]
        if experts == "batched_mm":  # it copies weights for every token: keep the test small
            prompt = min(prompt, max(17, 300 // batch))
        case = {
            "config": config,
            "dtype": draw.choice(["bfloat16", "float32"]),
            "experts": experts,
            "attention": ("sdpa", "eager")[number // 3 % 2],
            "batch": batch,
            "prompt": prompt,
            "new": draw.choice([1, 2, 6]),
            "padding": batch > 1 and draw.random() < 0.3,
        }
        cases.append(case)
    return cases


def build(config, dtype: str, attention: str, experts: str, seed: int):
    """A model with random weights on the CPU, which generates to the end."""
    torch.manual_seed(seed)
    options = {}
    if attention != "flash_attention_2":  # for that, from_config would look for the package
        options["attn_implementation"] = attention
    config = copy.deepcopy(config)  # the model changes it
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), **options).eval()
    model.config._attn_implementation = attention
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    if compat.has_fused_experts(model):
        model.set_experts_implementation(experts)
    return model


def measure(
    config, dtype, attention, experts, batch, prompt, new, padding, sampling=False, seed=0
) -> tuple[int, dict]:
    """Peak in bytes of a real generate(), weights excluded, and the routing as `watch_routing` gives it."""
    model = build(config, dtype, attention, experts, seed)
    turns = watch_routing(model)

    def generate():
        ids = torch.randint(10, 400, (batch, prompt))
        mask = torch.ones_like(ids)
        if padding:
            # On the left. flash-attn's copies leave it out; the forecast counts one padded token.
            padded = prompt // 3
            if attention == "flash_attention_2":
                padded = 1
            mask[0, :padded] = 0
        model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=sampling)

    return measured_peak(generate), turns


def predict(config, dtype, attention, experts, turns=None, **request) -> int:
    """Forecast of the same: the higher of the peaks of prefill and decode on a CPU.

    `turns`: the routing of a run, for eager experts.
    """
    model = meta_model(config, dtype, attention, experts)
    if turns:
        tell_routing(model, turns)
    peaks = simulate(model, {"": 0}, on_cpu=True, **request)
    return max(peaks["prefill"][0], peaks["decode"][0])
