"""How fast the full-size model is on a GPU, with every lever, beside the dense model of the same class.

    python tests/gpu/benchmark_full_size.py                       all steps that are not finished yet
    python tests/gpu/benchmark_full_size.py --minutes 8           begins no further step after so long
    python tests/gpu/benchmark_full_size.py --steps plain dense   only these
    python tests/gpu/benchmark_full_size.py --tiny --device cpu --out results.json   tries the code

The weights are random and are made on the GPU: 28.6 GB in bf16, so one card of 40 GB or two of 24 GB (the
dense model has 15.4 GB). Nothing is downloaded, and nothing is compiled except in the steps `compiled ...`,
where a compiler is there. Each step takes a few minutes at most; after each one the result file is written,
and a run that is called again goes on with the next step. The file says with which GPU, driver and versions
it was measured; notebook 07 draws it.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import speed_steps
import torch
from full_size_models import Sizes, device_map_for, empty_model, full_sizes, room_on_gpus, tiny_sizes
from measure_vram import describe
from speed_steps import Bench, skipped
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "helpers" / "speed" / "results"
CHILD = Path(__file__).with_name("vllm_child.py")
LONGEST_CHILD = 460  # seconds for one model in vLLM; most of it is the start
NO_GPU = "This machine has no CUDA GPU: run it on one, or use --tiny --device cpu."


def vllm(bench: Bench) -> list[dict]:
    """1,000 tokens in and 1,000 out in vLLM, both models: the comparison of which the blog says 1.74x."""
    reason = ""
    if importlib.util.find_spec("vllm") is None:
        reason = "vLLM is not installed"
    elif bench.device != "cuda":
        reason = "it is measured on GPUs only"
    if reason:
        return [skipped("vllm", "moe", reason), skipped("vllm", "dense", reason)]
    bench.free()  # vLLM wants the memory
    rows = []
    for name in ("moe", "dense"):
        rows += run_vllm(bench, name)
    return rows


def run_vllm(bench: Bench, name: str) -> list[dict]:
    """One model in a process of its own, which gives all memory back when it ends."""
    new_tokens = bench.sizes.prompt
    with tempfile.TemporaryDirectory() as folder:
        getattr(bench.sizes, name).save_pretrained(folder)
        compiler = int(speed_steps.has_compiler())
        numbers = [bench.sizes.prompt, new_tokens, torch.cuda.device_count(), compiler, *bench.sizes.batches]
        command = [sys.executable, str(CHILD), folder, name, *map(str, numbers)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_CHILD)
        except subprocess.TimeoutExpired:
            return [skipped("vllm", name, f"did not end within {LONGEST_CHILD} s")]
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [""]
        return [skipped("vllm", name, f"ended with {run.returncode}: {lines[-1][:200]}")]
    return json.loads(run.stdout.strip().splitlines()[-1])


#: In this order: a model is made once, and vLLM gets an empty GPU.
STEPS = {
    "bandwidth": speed_steps.bandwidth,
    "plain": speed_steps.plain,
    "prefill experts": speed_steps.prefill_experts,
    "decode experts": speed_steps.decode_experts,
    "attention": speed_steps.attention,
    "static cache": speed_steps.static_cache,
    "cuda graph": speed_steps.cuda_graph,
    "recorder": speed_steps.recorder,
    "compiled grouped_mm": partial(speed_steps.compiled, experts="grouped_mm"),
    "compiled batched_mm": partial(speed_steps.compiled, experts="batched_mm"),
    "dense": speed_steps.dense,
    "vllm": vllm,
}


def file_for(gpu: str) -> Path:
    """The result file of a GPU, as in `nvidia-h100-80gb-hbm3.json`."""
    name = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return RESULTS / f"{name}.json"


def read_started(file: Path, conditions: dict) -> dict:
    """What an earlier call left; a new record if there is none, or if it was measured with something else."""
    if not file.is_file():
        return {**conditions, "steps": {}}
    record = json.loads(file.read_text(encoding="utf-8"))
    for name in ("gpu", "gpus", "driver", "versions", "sizes", "models"):
        if record.get(name) != conditions[name]:
            print(f"{file.name} was measured with another {name}: all steps are measured again.")
            return {**conditions, "steps": {}}
    return record


def unusable(file: Path) -> str:
    """Why the results cannot be written to this file, found out before hours of measuring; "" if they can."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".part").touch()
        file.with_suffix(".part").unlink()
        if file.is_file():
            json.loads(file.read_text(encoding="utf-8"))["steps"].items()
    except OSError as error:
        return f"Nothing can be written to {file} ({error.strerror}): name another file with --out."
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{file} is no result file of this benchmark, and stays as it is: name another with --out."
    if file.is_dir():
        return f"{file} is a folder: name a file in it with --out."
    return ""


def write(file: Path, record: dict) -> None:
    """Write the whole file or nothing of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, file)


def is_finished(step: dict | None) -> bool:
    """Whether a step needs no further run: one with a lever that failed is tried again by the next call."""
    if step is None:
        return False
    return not any(row.get("skipped", "").startswith("failed") for row in step["rows"])


def is_usable(device: str) -> bool:
    """Whether the GPU still answers: after some errors it does not, until the process has ended."""
    if device == "cpu":
        return True
    try:
        speed_steps.wait(device)
    except RuntimeError:
        return False
    return True


def run_steps(bench: Bench, record: dict, file: Path, wanted: list[str], minutes: float) -> None:
    """Run the steps that are wanted and not finished; write after each one."""
    start = time.monotonic()
    bar = tqdm([name for name in wanted if not is_finished(record["steps"].get(name))], unit="step")
    for name in bar:
        if time.monotonic() - start > 60 * minutes:
            print(f"{minutes:g} minutes are over: call it again for the steps from {name!r} on.")
            return
        bar.set_postfix_str(name)
        began = time.monotonic()
        rows = STEPS[name](bench)
        record["steps"][name] = {"seconds": round(time.monotonic() - began, 1), "rows": rows}
        record["devices"] = max(bench.devices, record.get("devices", 0))
        write(file, record)
        if not is_usable(bench.device):
            print(f"The GPU does not answer any more after the step {name!r}: call it again for the others.")
            return


def refusal(sizes: Sizes, device: str) -> str:
    """Why nothing can be measured here; "" if it can."""
    if device == "cpu":
        return ""
    if not torch.cuda.is_available():
        return NO_GPU
    try:
        device_map_for(empty_model(sizes.moe), room_on_gpus())
    except MemoryError as error:
        return f"{error} Use a card of 40 GB or two of 24 GB, and end what else uses them."
    return ""


def print_rows(record: dict) -> None:
    """One line a row."""
    for name, step in record["steps"].items():
        for row in step["rows"]:
            words = [str(row[key]) for key in ("setting", "phase", "batch") if key in row]
            result = row.get("skipped", "")
            if "tokens_per_second" in row:
                result = f"{1000 * row['seconds']:10.2f} ms {row['tokens_per_second']:12.1f} tokens/s"
            elif "bytes_per_second" in row:
                result = f"{row['bytes_per_second'] / 1e9:10.1f} GB/s"
            elif "syncs_per_token" in row:
                result = f"{row['syncs_per_token']:10.1f} a token"
            if not row.get("same_tokens", True):
                result += ", but other tokens: not counted"
            print(f"{name:<20} {' '.join(words):<28} {result}")


def main() -> int:
    """Read the command line, measure, and print what was found."""
    parser = argparse.ArgumentParser(description="Measure the full-size model's speed on a GPU.")
    parser.add_argument("--tiny", action="store_true", help="tiny models: tries the code")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="result file (default: helpers/speed/results/<GPU>.json)")
    parser.add_argument("--minutes", type=float, default=1000, help="begin no further step after so long")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP")
    options = parser.parse_args()
    sizes = full_sizes()
    if options.tiny:
        sizes = tiny_sizes()
        torch.set_num_threads(1)  # sharing out work this small costs more than the work itself
    if reason := refusal(sizes, options.device):
        print(reason, file=sys.stderr)
        return 1
    if options.out is None and (options.tiny or options.device == "cpu"):
        print("Times of a tiny model or of a CPU are no results: name a file with --out.", file=sys.stderr)
        return 1
    conditions = {**describe(options.device), "gpus": torch.cuda.device_count(), "sizes": sizes.name}
    conditions["models"] = speed_steps.model_facts(sizes)
    file = options.out or file_for(conditions["gpu"])
    if reason := unusable(file):
        print(reason, file=sys.stderr)
        return 1
    record = read_started(file, conditions)
    try:
        run_steps(Bench(sizes, options.device), record, file, options.steps, options.minutes)
    except KeyboardInterrupt:
        print("\nInterrupted: call it again for the steps that are left.", file=sys.stderr)
        return 130
    print_rows(record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
