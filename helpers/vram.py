"""Forecast of the GPU memory that a causal language model of transformers needs for inference.

The idea: a tensor on PyTorch's `meta` device has a shape and a type, but no bytes. So the model's code runs
anywhere, at any size, in a second, while a *ledger* notes which tensors are alive on which GPU. The highest
total in the ledger is the peak of a real run. Sizes are bytes; GiB = 2^30 bytes, GB = 10^9 bytes.

    python -m helpers.vram real --gpus 24GiB 24GiB --prompt 2048 --new 512 --batch 1
"""

import argparse
import copy
import json
import weakref
from collections import defaultdict
from pathlib import Path
from unittest import mock

import torch
from accelerate.utils import convert_file_size_to_int
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, DynamicCache, integrations
from transformers.integrations import moe

from helpers import CourseError

REAL_CONFIG = Path(__file__).parent / "qwen1.5-moe-a2.7b-chat.config.json"
GIB = 2**30
CUDA_BLOCK = 512  # PyTorch's CUDA allocator hands out multiples of 512 bytes
CUBLAS_WORKSPACE = 8_519_680  # what PyTorch allocates for cuBLAS on each GPU; 32 MiB on Hopper
CUDA_CONTEXT = GIB // 2  # estimate: CUDA context and kernels on each GPU
FRAGMENTATION = 0.10  # estimate: what the allocator holds in vain, as a share of the memory above the weights
EAGER_IMBALANCE = 2.0  # assumption for eager experts: tokens of the busiest expert over its fair share
PHASES = ("loading", "prefill", "decode")


class Ledger(TorchDispatchMode):
    """Books every storage that operations create on `gpu`, the GPU that computes now. Views create none."""

    def __init__(self, weights, block: int):
        super().__init__()
        self.gpu, self.block, self.live, self.peak = 0, block, defaultdict(int), defaultdict(int)
        self.home = {w.untyped_storage()._cdata: None for w in weights}  # storage -> GPU; weights not booked

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(result)):
            self.book(tensor.untyped_storage())
        return result

    def book(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self.home:
            gpu, size = self.gpu, -(-storage.nbytes() // self.block) * self.block
            self.home[key] = gpu
            self.live[gpu] += size
            self.peak[gpu] = max(self.peak[gpu], self.live[gpu])
            weakref.finalize(storage, self.release, key, gpu, size)

    def release(self, key: int, gpu: int, size: int) -> None:
        del self.home[key]
        self.live[gpu] -= size

    def gpu_of(self, tensor: torch.Tensor) -> int | None:
        return self.home.get(tensor.untyped_storage()._cdata)

    def move(self, tree, gpu: int):
        """From now on `gpu` computes: tensors of another GPU are copied to it, as accelerate's hooks do."""
        self.gpu = gpu
        return tree_map_only(torch.Tensor, lambda t: t if self.gpu_of(t) in (gpu, None) else t.clone(), tree)


# Stand-ins for kernels: they allocate what a fused GPU kernel does. On `meta`, PyTorch would take slow paths.
def fused_attention(query, key, value, *mask, **options):
    """sdpa: one output, laid out as (batch, tokens, heads, size). A matrix of scores never exists."""
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)


def eager_experts(self, hidden, top_k_index, top_k_weights):
    """Two turns of the loop over experts; how many tokens the busiest expert gets is an assumption."""
    result, functional = torch.zeros_like(hidden), torch.nn.functional
    _chosen = functional.one_hot(top_k_index, self.num_experts + 1)
    tokens = min(len(hidden), round(EAGER_IMBALANCE * top_k_index.numel() / self.num_experts))
    for _ in range(2):
        rows, _index = hidden[:tokens].clone(), top_k_index.new_empty(2, tokens)
        gate, up = functional.linear(rows, self.gate_up_proj[0]).chunk(2, dim=-1)
        output = self.act_fn(gate) * up
        output = functional.linear(output, self.down_proj[0])
        output = output * top_k_weights[:tokens, :1]
    return result


moe.ALL_EXPERTS_FUNCTIONS.register("ledger_eager", eager_experts)
AttentionInterface.register("ledger", lambda _, *qkv, **__: (fused_attention(*qkv).transpose(1, 2), None))
FAKE_SDPA = mock.patch("torch.nn.functional.scaled_dot_product_attention", fused_attention)
FAKE_MM = mock.patch.object(moe, "_grouped_mm", lambda x, w, offs: x.new_empty(len(x), w.shape[-1]))
FAKE_ALL = mock.patch("transformers.masking_utils.fast_all", lambda mask: False)  # masks have zeros


def load_config(model: str | Path):
    """Config of a model folder or config.json (no network), or of Qwen1.5-MoE for the word `real`."""
    path = REAL_CONFIG if str(model) == "real" else Path(model)
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(f"{path.name} has no model config: give a model folder, or real.") from error


def meta_model(config, dtype="bfloat16", attention="sdpa", experts="grouped_mm"):
    """The model on `meta`: parameters without bytes. flash_attention_2 counts as sdpa without a mask."""
    how = {"dtype": getattr(torch, dtype)}
    how["attn_implementation"] = attention.replace("flash_attention_2", "ledger")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), **how).eval()
    if model._can_set_experts_implementation():  # a dense model has no experts
        model.set_experts_implementation("ledger_eager" if experts == "eager" else experts)
    return model


def device_map(model, max_memory: dict[int | str, int]) -> dict[str, int | str]:
    """What from_pretrained(device_map="auto", max_memory=max_memory) makes: module name -> GPU or "cpu"."""
    with mock.patch.object(integrations.accelerate, "accelerate_max_memory", dict):  # it looks for real GPUs
        return dict(integrations.accelerate._get_device_map(model, "auto", max_memory, None))


def run(model, placement, batch=1, prompt=2048, new=512, padding=False, sampling=False, on_cpu=False):
    """Runs prefill and the last decoding step, the largest one: the cache has grown until then.

    Returns bytes per GPU above the weights: {"prefill": {0: ...}, "decode": {0: ...}, "kv_cache": {0: ...}}.
    `on_cpu`: sizes are not rounded to `CUDA_BLOCK`, and decoding keeps the experts implementation.
    """
    if min(batch, prompt, new) < 1:
        raise CourseError(f"Batch {batch}, prompt {prompt}, new {new}: each must be at least 1.")
    ledger = Ledger([*model.parameters(), *model.buffers()], block=1 if on_cpu else CUDA_BLOCK)
    cache, kv_cache = DynamicCache(config=model.config), defaultdict(int)
    for name, gpu in placement.items():  # GPU 0 computes what lies in RAM
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, *inputs, gpu=0 if gpu == "cpu" else gpu: ledger.move(inputs, gpu), with_kwargs=True
        )

    def step(past: int, length: int):
        """One forward pass as generate() makes it; returns what generate() holds until the next one."""
        ledger.gpu = 0
        ids, mask, positions = torch.empty(3, batch, past + length, dtype=torch.int64, device="meta")
        inputs = {"input_ids": ids[:, past:].clone(), "attention_mask": mask if padding else None}
        inputs["position_ids"] = positions[:, past:].clone() if past else positions
        logits = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        scores = ledger.move(logits, 0)[:, -1].to(torch.float32, copy=True)
        return scores, scores.softmax(-1) if sampling else None

    with FAKE_SDPA, FAKE_MM, FAKE_ALL, torch.no_grad(), ledger:
        kept = step(0, prompt)
        prefill = dict(ledger.peak)
        if new > 1:  # else the prefill's own token is the only one
            past = prompt + new - 2  # tokens in the cache before the last step
            for layer in cache.layers:
                ledger.gpu, layer.cumulative_length = ledger.gpu_of(layer.keys), past
                n = min(past, layer.sliding_window - 1) if layer.is_sliding else past
                layer.keys = layer.keys.new_empty(*layer.keys.shape[:2], n, layer.keys.shape[3])
                layer.values = layer.values.new_empty(*layer.values.shape[:2], n, layer.values.shape[3])
            if not on_cpu and model.config._experts_implementation == "grouped_mm":
                model.set_experts_implementation("batched_mm")  # as generate() does
            ledger.peak.clear()
            kept = kept, step(past, 1)
    for layer in cache.layers:
        kv_cache[ledger.gpu_of(layer.keys)] += layer.keys.nbytes + layer.values.nbytes
    return {"prefill": prefill, "decode": dict(ledger.peak), "kv_cache": kv_cache}


def forecast(model, gpus, dtype="bfloat16", attention="sdpa", experts="grouped_mm", **request) -> dict:
    """Memory of generate() for a batch of equally long prompts; `request`: see `run`.

    `model`: a config, or what `load_config` takes. `gpus`: bytes or texts like "24GiB". Returns "placement",
    "offloaded" (bytes left in RAM), "fits" and "gpus": one row each with the bytes of "weights", of the final
    "kv_cache", of the peaks `PHASES` (with weights), of the estimates "context" and "overhead", and "needs".
    """
    config = load_config(model) if isinstance(model, str | Path) else model
    model, rows = meta_model(config, dtype, attention, experts), []
    sizes = [convert_file_size_to_int(size) for size in gpus]
    share = 0.9 if len(sizes) == 1 else 1  # transformers plans only 90 % of a single GPU
    free = {gpu: int(share * max(0, size - CUDA_CONTEXT)) for gpu, size in enumerate(sizes)}
    placement = device_map(model, free | {"cpu": 2**60})
    parameters = defaultdict(dict)  # GPU -> {parameter: name}; tied parameters count once
    for part, gpu in placement.items():
        parameters[gpu].update({p: name for name, p in model.get_submodule(part).named_parameters()})
    above = run(model, placement, **request)
    for gpu, size in enumerate(sizes):
        weights = sum(p.nbytes for p in parameters[gpu])
        # Loading fuses the experts of a layer: the largest fused tensor exists twice.
        fused = max((p.nbytes for p, name in parameters[gpu].items() if "experts.gate_up" in name), default=0)
        row = {"gpu": gpu, "size": size, "weights": weights, "kv_cache": above["kv_cache"][gpu]}
        row |= {"loading": weights + fused, "context": CUDA_CONTEXT}
        row |= {phase: weights + above[phase].get(gpu, 0) + CUBLAS_WORKSPACE for phase in PHASES[1:]}
        peak = max(row[phase] for phase in PHASES)
        row["overhead"] = int(FRAGMENTATION * (peak - weights))
        rows.append(row | {"needs": peak + row["context"] + row["overhead"]})
    offloaded = sum(p.nbytes for p in parameters["cpu"])
    fits = not offloaded and all(row["needs"] <= row["size"] for row in rows)
    return {"gpus": rows, "placement": placement, "offloaded": offloaded, "fits": fits}


def largest(setting: str, model, **request) -> int:
    """Largest "batch" or "prompt" that fits, to about 1 %, the rest of `request` unchanged; 0 if none."""
    low, high = 0, 2**18
    while high > low + 1 + low // 100:
        middle = max(low + 1, int((low * high) ** 0.5))  # the geometric mean: few steps at any size
        fits = forecast(model, **request | {setting: middle})["fits"]
        low, high = (middle, high) if fits else (low, middle)
    return low


def verdict(plan: dict, model, gpus, **request) -> str:
    """One sentence on a forecast: it fits, or by how much, where and when it does not, and what would fit."""
    worst = max(plan["gpus"], key=lambda row: row["needs"] - row["size"])
    lack = (plan["offloaded"] or worst["needs"] - worst["size"]) / GIB
    if plan["fits"]:
        return f"It fits: {-lack:.2f} GiB stay free on GPU {worst['gpu']}."
    if plan["offloaded"]:
        more = (n for n in range(len(gpus) + 1, 17) if forecast(model, gpus[:1] * n, **request)["fits"])
        return f"The GPUs lack {lack:.2f} GiB for the weights: take {next(more, 'more than 16')} such GPUs."
    found = {name: largest(name, model, gpus=gpus, **request) for name in ("batch", "prompt")}
    fitting = " or ".join(f"{name} {n}" for name, n in found.items() if n) or "larger GPUs"
    return f"GPU {worst['gpu']} lacks {lack:.2f} GiB during {max(PHASES, key=worst.get)}: take {fitting}."


def main() -> None:
    parser = argparse.ArgumentParser("python -m helpers.vram", description="Forecast a model's GPU memory.")
    parser.add_argument("model", help="a model folder, a config.json, or the word real")
    parser.add_argument("--gpus", nargs="+", default=["24GiB"] * 2, help="sizes such as 24GiB or 24GB")
    defaults = {"batch": 1, "prompt": 2048, "new": 512, "dtype": "bfloat16", "attention": "sdpa"}
    for name, value in (defaults | {"experts": "grouped_mm"}).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--json", action="store_true")
    as_json = (request := vars(parser.parse_args())).pop("json")
    try:
        plan = forecast(**request)
        plan["verdict"] = verdict(plan, **request)
    except (CourseError, ValueError, AttributeError) as error:
        raise SystemExit(str(error)) from error
    if as_json:
        return print(json.dumps(plan, indent=2))
    columns = ("weights", "kv_cache", *PHASES, "context", "overhead", "needs", "size")
    print("  GiB" + "".join(f"{name:>9}" for name in columns))
    for row in plan["gpus"]:
        print(f"GPU {row['gpu']}" + "".join(f"{row[name] / GIB:9.2f}" for name in columns))
    print(plan["verdict"])


if __name__ == "__main__":
    main()
