"""Measure the full-size model with random weights on one large GPU, against the forecast of helpers.vram.

    python tests/gpu/measure_vram.py                      27 GiB of disk and of GPU memory, 30 GiB of RAM
    python tests/gpu/measure_vram.py --tiny --device cpu  the same steps with a tiny model on a CPU

Prints one table and writes vram_results.json beside this file, which notebook 02 reads (with --tiny only
if --out is given). All sizes are bytes; GiB = 2^30 bytes.
"""

import argparse
import datetime
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.profiler import profile

from helpers import EMBEDDED_MODEL
from helpers.vram import forecasting as vram

RESULTS = Path(__file__).with_name("vram_results.json")
SHARD = 4 * 10**9
# batch, prompt, new, attention, sampling
POINTS = [
    (1, 512, 64, "sdpa", False),
    (1, 2048, 64, "sdpa", False),
    (1, 2048, 64, "sdpa", True),
    (1, 8192, 64, "sdpa", False),
    (1, 32000, 16, "sdpa", False),
    (4, 512, 64, "sdpa", True),
    (8, 2048, 64, "sdpa", False),
    (16, 1024, 64, "sdpa", False),
    (32, 512, 64, "sdpa", False),
    (32, 512, 64, "sdpa", True),
    (1, 2048, 16, "eager", False),
    (1, 8192, 16, "eager", False),
    (8, 1024, 16, "eager", False),
    (4, 16, 512, "sdpa", False),
]


def checkpoint_tensors(config):
    """Names and shapes in the hub's layout, with one tensor per expert and projection."""
    hidden, width = config.hidden_size, config.moe_intermediate_size
    for name, parameter in vram.meta_model(config).named_parameters():
        if name.endswith("experts.gate_up_proj"):
            for expert in range(config.num_experts):
                for part, shape in (
                    ("gate", (width, hidden)),
                    ("up", (width, hidden)),
                    ("down", (hidden, width)),
                ):
                    yield name.replace("gate_up_proj", f"{expert}.{part}_proj.weight"), shape
        elif not name.endswith("experts.down_proj"):
            yield name, tuple(parameter.shape)


def write_checkpoint(folder: Path, config, shard_bytes: int = SHARD) -> None:
    """Random bf16 weights in shards with an index, one shard in memory at a time."""
    shards = [[]]
    free = shard_bytes
    for name, shape in checkpoint_tensors(config):
        size = 2 * torch.Size(shape).numel()
        if size > free and shards[-1]:
            shards.append([])
            free = shard_bytes
        shards[-1].append((name, shape))
        free -= size
    generator = torch.Generator().manual_seed(0)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {
            name: torch.ones(shape, dtype=torch.bfloat16)
            if "norm" in name
            else torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
            for name, shape in shard
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        print(f"wrote {file}", flush=True)
    total = sum(2 * torch.Size(shape).numel() for shard in shards for _, shape in shard)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (EMBEDDED_MODEL / name).is_file():
            shutil.copy(EMBEDDED_MODEL / name, folder)


class Peak:
    bytes = 0


@contextmanager
def peak_memory(device: str, weights: int = 0):
    """Measures the peak of allocated bytes: on a GPU all of them, on a CPU `weights` plus what is new."""
    peak = Peak()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # else the peak of loading is what one reads
        yield peak
        torch.cuda.synchronize()
        peak.bytes = torch.cuda.max_memory_allocated()
        return
    with profile(profile_memory=True) as profiler:
        yield peak
    live = highest = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        highest = max(highest, live)
    peak.bytes = weights + highest


def predict(config, device, attention="sdpa", placement=None, **request) -> dict[str, int]:
    """Peaks of one device, weights included: {"weights", "prefill", "decode"}; default: all modules on it."""
    model = vram.meta_model(config, attention=attention)
    placement = placement or {"": 0}
    on_it = [model.get_submodule(part) for part, place in placement.items() if place == 0]
    weights = sum(p.nbytes for p in {p: None for module in on_it for p in module.parameters()})
    above = vram.run(model, placement, on_cpu=device == "cpu", **request)
    workspace = 0
    if device == "cuda":
        workspace = 32 * 2**20 if torch.cuda.get_device_capability()[0] == 9 else vram.CUBLAS_WORKSPACE
    return {"weights": weights} | {p: weights + above[p].get(0, 0) + workspace for p in ("prefill", "decode")}


def generate(model, batch, prompt, new, sampling) -> None:
    ids = torch.randint(10, 400, (batch, prompt), device=model.device)
    mask = torch.ones_like(ids)
    sampler = {"do_sample": sampling}
    if sampling:
        sampler |= {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
    model.generate(ids, attention_mask=mask, min_new_tokens=new, max_new_tokens=new, **sampler)


def compare(name: str, measured: int, forecast: int, weights: int) -> dict:
    above = (forecast - weights) / max(1, measured - weights) - 1
    return {"name": name, "measured": measured, "forecast": forecast, "weights": weights} | {
        "error": forecast / measured - 1,
        "error_above_weights": above,
    }


def measure_all(config, folder: Path, device: str, points) -> list[dict]:
    """All points on a model that helpers.inference loads: loading, generate, one chat."""
    from helpers import inference
    from helpers.inference import chat

    results = []
    with peak_memory(device) as peak:
        model, tokenizer = inference.load(folder)
    whole = predict(config, device, batch=1, prompt=16, new=2)
    fused = 2 * config.num_experts * config.moe_intermediate_size * config.hidden_size * 2
    if device == "cuda":
        results.append(compare("loading", peak.bytes, whole["weights"] + fused, whole["weights"]))
    for batch, prompt, new, attention, sampling in points:
        model.set_attn_implementation(attention)
        request = {"batch": batch, "prompt": prompt, "new": new, "sampling": sampling}
        plan = predict(config, device, attention, **request)
        with peak_memory(device, plan["weights"]) as peak:
            generate(model, **request)
        name = f"{batch} x {prompt} + {new}, {attention}, {'sampling' if sampling else 'greedy'}"
        results.append(compare(name, peak.bytes, max(plan["prefill"], plan["decode"]), plan["weights"]))
        if device == "cuda":
            results[-1]["reserved"] = torch.cuda.max_memory_reserved()
        print(json.dumps(results[-1]), flush=True)
    model.set_attn_implementation("sdpa")
    with peak_memory(device, whole["weights"]) as peak:
        messages = [{"role": "user", "content": "Give me a short introduction to large language model."}]
        stream = chat.stream_chat(model, tokenizer, messages, max_new_tokens=32, do_sample=False)
        pieces = list(stream)
    request = {"batch": 1, "prompt": stream.prompt_tokens, "new": max(1, stream.new_tokens)}
    plan = predict(config, device, **request)
    print(
        f"stream_chat: {len(pieces)} pieces, {stream.new_tokens} tokens, {stream.finish_reason}", flush=True
    )
    if device == "cuda":  # on a CPU, the profiler does not see the thread that generates
        results.append(
            compare("stream_chat", peak.bytes, max(plan["prefill"], plan["decode"]), plan["weights"])
        )
    return results


def measure_halves(config, folder: Path, device: str, prompt: int) -> list[dict]:
    """Each half of a map for two cards on the one GPU, the other half computed by the CPU; prefill only."""
    from accelerate import dispatch_model
    from transformers import AutoModelForCausalLM

    model = vram.meta_model(config)
    half = sum(parameter.nbytes for parameter in model.parameters()) * 0.9
    placement = vram.device_map(model, {0: int(half), 1: int(half)})
    results = []
    for gpu in (0, 1):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        where = {part: 0 if place == gpu else "cpu" for part, place in placement.items()}
        model = dispatch_model(model, where, main_device="cpu")  # else the GPU would compute all of it
        ours = {part: 0 if place == gpu else 1 for part, place in placement.items()}
        plan = predict(config, device, placement=ours, batch=1, prompt=prompt, new=1)
        with peak_memory(device, plan["weights"]) as peak:
            generate(model, 1, prompt, 1, False)
        name = f"half {gpu} of two, 1 x {prompt}, prefill"
        results.append(compare(name, peak.bytes, plan["prefill"], plan["weights"]))
        del model
    return results


def describe(device: str) -> dict:
    import accelerate
    import transformers

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    cuda = device == "cuda"
    return {
        "gpu": torch.cuda.get_device_name() if cuda else "no GPU",
        "driver": subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0]
        if cuda
        else "none",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
        },
        "date": datetime.date.today().isoformat(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure memory on one GPU against the forecast.")
    parser.add_argument("--tiny", action="store_true", help="a tiny model instead of the full-size one")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="where to write the JSON file")
    parser.add_argument("--folder", type=Path, help="folder for the checkpoint (default: temporary)")
    parser.add_argument("--skip-halves", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("This machine has no CUDA GPU: run it on one, or use --tiny --device cpu.", file=sys.stderr)
        return 1
    config, points = vram.load_config("real"), POINTS
    if arguments.tiny:
        config = vram.load_config(EMBEDDED_MODEL)
        points = [(b, min(p, 512), min(n, 8), attention, s) for b, p, n, attention, s in POINTS if b < 16]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "model.safetensors.index.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_checkpoint(folder, config, 10**6 if arguments.tiny else SHARD)
        results = measure_all(config, folder, arguments.device, points)
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
            if not arguments.skip_halves:
                results += measure_halves(config, folder, arguments.device, 256)
    print(f"{'':<44} {'measured':>10} {'forecast':>10} {'error':>8} {'above weights':>14}")
    for row in results:
        measured, forecast = row["measured"] / vram.GIB, row["forecast"] / vram.GIB
        errors = f"{row['error']:>+8.2%} {row['error_above_weights']:>+14.2%}"
        print(f"{row['name']:<44} {measured:>10.4f} {forecast:>10.4f} {errors}")
    out = arguments.out or (None if arguments.tiny else RESULTS)
    if out:
        record = describe(arguments.device) | {"points": results}
        out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
