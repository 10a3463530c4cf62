"""Forecast of the GPU memory that a causal language model of transformers needs for inference.

Needs no GPU, no weights and no network: helpers.ledger runs the model's own code on tensors without bytes.
Sizes are bytes; GiB = 2^30 bytes, GB = 10^9 bytes.

    python -m helpers.vram real --gpus 24GiB 24GiB --prompt 2048 --new 512 --batch 1
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from unittest import mock

from accelerate.utils import convert_file_size_to_int
from transformers import AutoConfig, integrations

from helpers import CourseError
from helpers.vram.ledger import meta_model, run

REAL_CONFIG = Path(__file__).parent / "qwen1.5-moe-a2.7b-chat.config.json"
GIB = 2**30
CUBLAS_WORKSPACE = 8_519_680  # what PyTorch allocates for cuBLAS on each GPU; 32 MiB on Hopper
CUDA_CONTEXT = GIB // 2  # estimate: CUDA context and kernels on each GPU
FRAGMENTATION = 0.10  # estimate: what the allocator holds in vain, as a share of the memory above the weights
PCIE = 20e9  # assumption: bytes per second from RAM to a GPU (PCIe 4.0 x16: 32 GB/s on paper)
PHASES = ("loading", "prefill", "decode")
# Card -> nominal size in GB, read cautiously as 10^9 bytes, and a dtype that it computes in.
CARDS = {"V100 16 GB": (16, "float32"), "RTX 3090, RTX 4090, A10": (24, "bfloat16")}
CARDS |= {"V100 32 GB": (32, "float32"), "A100 40 GB": (40, "bfloat16"), "L20, L40S": (48, "bfloat16")}
CARDS |= {"A100 80 GB, H100": (80, "bfloat16"), "H20": (96, "bfloat16"), "H200": (141, "bfloat16")}


def load_config(model: str | Path):
    """Config of a model folder or config.json (no network), or of Qwen1.5-MoE for the word `real`."""
    path = REAL_CONFIG if str(model) == "real" else Path(model)
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(f"{path.name} has no model config: give a model folder, or real.") from error


def device_map(model, max_memory: dict[int | str, int]) -> dict[str, int | str]:
    """What from_pretrained(device_map="auto", max_memory=max_memory) makes: module name -> GPU or "cpu"."""
    with mock.patch.object(integrations.accelerate, "accelerate_max_memory", dict):  # it looks for real GPUs
        return dict(integrations.accelerate._get_device_map(model, "auto", max_memory, None))


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
    # Weights in RAM visit GPU 0 module by module, each time they are used.
    offloaded = [
        module
        for part, gpu in placement.items()
        if gpu == "cpu"
        for module in model.get_submodule(part).modules()
    ]
    visiting = max((sum(p.nbytes for p in m.parameters(recurse=False)) for m in offloaded), default=0)
    for gpu, size in enumerate(sizes):
        weights = sum(p.nbytes for p in parameters[gpu])
        # Loading fuses the experts of a layer: the largest fused tensor exists twice.
        fused = max((p.nbytes for p, name in parameters[gpu].items() if "experts.gate_up" in name), default=0)
        row = {"gpu": gpu, "size": size, "weights": weights, "kv_cache": above["kv_cache"][gpu]}
        row |= {"loading": weights + fused, "context": CUDA_CONTEXT}
        base = weights + CUBLAS_WORKSPACE + (visiting if gpu == 0 else 0)
        row |= {phase: base + above[phase].get(gpu, 0) for phase in PHASES[1:]}
        peak = max(row[phase] for phase in PHASES)
        row["overhead"] = int(FRAGMENTATION * (peak - weights))
        rows.append(row | {"needs": peak + row["context"] + row["overhead"]})
    in_ram = sum(p.nbytes for p in parameters["cpu"])
    fits = not in_ram and all(row["needs"] <= row["size"] for row in rows)
    return {"gpus": rows, "placement": placement, "offloaded": in_ram, "fits": fits}


def largest(setting: str, model, **request) -> int:
    """Largest "batch" or "prompt" that fits, to about 1 %, the rest of `request` unchanged; 0 if none."""
    low, high = 0, request.get(setting, 1)
    while forecast(model, **request | {setting: high})["fits"]:
        low, high = high, 4 * high
    while high > low + 1 + low // 100:
        middle = max(low + 1, int((low * high) ** 0.5))  # the geometric mean: few steps at any size
        fits = forecast(model, **request | {setting: middle})["fits"]
        low, high = (middle, high) if fits else (low, middle)
    return low


def cards(model, **request) -> dict[str, int | None]:
    """How many cards of each kind in `CARDS` hold the model and the request: 1, 2, or None for neither."""
    found = {}
    for name, (size, dtype) in CARDS.items():
        settings = request | {"dtype": dtype}
        counts = (n for n in (1, 2) if forecast(model, gpus=[f"{size}GB"] * n, **settings)["fits"])
        found[name] = next(counts, None)
    return found


def seconds_to_move(plan: dict, bytes_per_second: float = PCIE) -> float:
    """Least time that the offloaded weights of a forecast take from RAM to the GPU: once per token."""
    return plan["offloaded"] / bytes_per_second


def verdict(plan: dict, model, gpus, **request) -> str:
    """One sentence on a forecast: it fits, or by how much, where and when it does not, and what would fit."""
    worst = max(plan["gpus"], key=lambda row: row["needs"] - row["size"])
    lack = (plan["offloaded"] or worst["needs"] - worst["size"]) / GIB
    if plan["fits"]:
        return f"It fits: {-lack:.2f} GiB stay free on GPU {worst['gpu']}."
    if plan["offloaded"]:
        more = (n for n in range(len(gpus) + 1, 17) if forecast(model, gpus[:1] * n, **request)["fits"])
        return (
            f"The GPUs lack {lack:.2f} GiB for the weights: take {next(more, 'more than 16')} such GPUs. "
            f"With that in RAM, every token waits at least {seconds_to_move(plan):.2f} s for it."
        )
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
    parser.add_argument(
        "--fits", action="store_true", help="also: longest prompt, largest batch, which cards"
    )
    parser.add_argument("--json", action="store_true")
    request = vars(parser.parse_args())
    as_json, fits = request.pop("json"), request.pop("fits")
    try:
        plan = forecast(**request)
        if fits or not plan["fits"]:
            print("Searching for settings that fit takes some seconds ...", file=sys.stderr, flush=True)
        plan["verdict"] = verdict(plan, **request)
        if fits:
            plan["largest"] = {setting: largest(setting, **request) for setting in ("prompt", "batch")}
            plan["cards"] = cards(
                **{name: request[name] for name in request if name not in ("gpus", "dtype")}
            )
    except (CourseError, ValueError, AttributeError) as error:
        raise SystemExit(str(error)) from error
    if as_json:
        return print(json.dumps(plan, indent=2))
    columns = ("weights", "kv_cache", *PHASES, "context", "overhead", "needs", "size")
    print("  GiB" + "".join(f"{name:>9}" for name in columns))
    for row in plan["gpus"]:
        print(f"GPU {row['gpu']}" + "".join(f"{row[name] / GIB:9.2f}" for name in columns))
    print(plan["verdict"])
    if fits:
        print(
            "Largest that fits, all else equal: prompt {prompt:,}, batch {batch:,}.".format(**plan["largest"])
        )
        for name, count in plan["cards"].items():
            print(f"{name:<24} {f'{count} needed' if count else 'more than 2 needed'}")


if __name__ == "__main__":
    main()
