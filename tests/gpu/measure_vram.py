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
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import profile

from helpers import EMBEDDED_MODEL, GIB, compat, vram
from helpers.vram.forecasting import CUBLAS_WORKSPACE, parameters_by_place
from helpers.vram.measuring import peak_of_tensors

sys.path.append(str(Path(__file__).parents[1]))  # for what several folders of tests use
from random_checkpoint import FILE_BYTES, write_checkpoint

RESULTS = Path(__file__).with_name("vram_results.json")
HOPPER_WORKSPACE = 32 * 2**20  # what PyTorch allocates for cuBLAS on a Hopper GPU


class Point(NamedTuple):
    """One request: `batch` prompts of `prompt` tokens get `new` new ones each."""

    batch: int
    prompt: int
    new: int
    attention: str = "sdpa"
    sampling: bool = False


POINTS = [
    Point(1, 512, 64),
    Point(1, 2048, 64),
    Point(1, 2048, 64, sampling=True),
    Point(1, 8192, 64),
    Point(1, 32000, 16),
    Point(4, 512, 64, sampling=True),
    Point(8, 2048, 64),
    Point(16, 1024, 64),
    Point(32, 512, 64),
    Point(32, 512, 64, sampling=True),
    Point(1, 2048, 16, "eager"),
    Point(1, 8192, 16, "eager"),
    Point(8, 1024, 16, "eager"),
    Point(4, 16, 512),
]


class Peak:
    """Filled when the measurement ends."""

    bytes = 0


@contextmanager
def peak_memory(device: str, weights: int = 0) -> Iterator[Peak]:
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
    peak.bytes = weights + peak_of_tensors(profiler)


def workspace_bytes(device: str) -> int:
    """What PyTorch allocates for cuBLAS."""
    if device == "cpu":
        return 0
    if torch.cuda.get_device_capability()[0] == 9:
        return HOPPER_WORKSPACE
    return CUBLAS_WORKSPACE


def predict(config, device, attention="sdpa", placement=None, **request) -> dict[str, int]:
    """Peaks of GPU 0, weights included: "weights", "prefill", "decode". Default: all modules are on it."""
    model = vram.meta_model(config, attention=attention)
    placement = placement or {"": 0}
    weights = sum(parameter.nbytes for parameter in parameters_by_place(model, placement)[0])
    above = vram.simulate(model, placement, on_cpu=device == "cpu", **request)
    base = weights + workspace_bytes(device)
    return {
        "weights": weights,
        "prefill": base + above["prefill"].get(0, 0),
        "decode": base + above["decode"].get(0, 0),
    }


def generate(model, batch: int, prompt: int, new: int, sampling: bool) -> None:
    """A real request of this size with random tokens."""
    ids = torch.randint(10, 400, (batch, prompt), device=model.device)
    options = {"do_sample": sampling}
    if sampling:
        options = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    model.generate(
        ids, attention_mask=torch.ones_like(ids), min_new_tokens=new, max_new_tokens=new, **options
    )


def compare(name: str, measured: int, predicted: int, weights: int) -> dict:
    """One row of the result."""
    return {
        "name": name,
        "measured": measured,
        "forecast": predicted,
        "weights": weights,
        "error": predicted / measured - 1,
        "error_above_weights": (predicted - weights) / max(1, measured - weights) - 1,
    }


def highest(peaks: dict[str, int]) -> int:
    """The higher of the two phases."""
    return max(peaks["prefill"], peaks["decode"])


def measure_point(model, config, device: str, point: Point) -> dict:
    """One request on a loaded model."""
    model.set_attn_implementation(point.attention)
    request = point._asdict()
    attention = request.pop("attention")
    peaks = predict(config, device, attention, **request)
    with peak_memory(device, peaks["weights"]) as peak:
        generate(model, **request)
    choice = "greedy"
    if point.sampling:
        choice = "sampling"
    name = f"{point.batch} x {point.prompt} + {point.new}, {attention}, {choice}"
    row = compare(name, peak.bytes, highest(peaks), peaks["weights"])
    if device == "cuda":
        row["reserved"] = torch.cuda.max_memory_reserved()
    print(json.dumps(row), flush=True)
    return row


def measure_chat(model, tokenizer, config, device: str) -> list[dict]:
    """One chat, as the learner sees it."""
    from helpers import inference  # imported late: the other measurements do without

    weights = predict(config, device, batch=1, prompt=16, new=2)["weights"]
    messages = [{"role": "user", "content": "Give me a short introduction to large language model."}]
    with peak_memory(device, weights) as peak:
        stream = inference.stream_chat(model, tokenizer, messages, max_new_tokens=32, do_sample=False)
        pieces = list(stream)
    peaks = predict(config, device, batch=1, prompt=stream.prompt_tokens, new=max(1, stream.new_tokens))
    print(f"chat: {len(pieces)} pieces, {stream.new_tokens} tokens, {stream.finish_reason}", flush=True)
    if device == "cpu":  # the profiler does not see the thread that generates
        return []
    return [compare("stream_chat", peak.bytes, highest(peaks), weights)]


def measure_all(config, folder: Path, device: str, points: list[Point]) -> list[dict]:
    """All points on a model that helpers.inference loads: loading, generate, one chat."""
    from helpers import inference  # imported late: the other measurements do without

    results = []
    with peak_memory(device) as peak:
        model, tokenizer = inference.load(folder)
    if device == "cuda":
        weights = predict(config, device, batch=1, prompt=16, new=2)["weights"]
        fused = 2 * config.num_experts * config.moe_intermediate_size * config.hidden_size * 2
        results.append(compare("loading", peak.bytes, weights + fused, weights))
    for point in points:
        results.append(measure_point(model, config, device, point))
    model.set_attn_implementation("sdpa")
    return results + measure_chat(model, tokenizer, config, device)


def measure_halves(config, folder: Path, device: str, prompt: int) -> list[dict]:
    """Each half of a map for two cards on the one GPU, the other half computed by the CPU; prefill only."""
    from accelerate import dispatch_model  # imported late: only this measurement needs them
    from transformers import AutoModelForCausalLM

    on_meta = vram.meta_model(config)
    half = int(0.9 * sum(parameter.nbytes for parameter in on_meta.parameters()))
    placement = compat.auto_device_map(on_meta, {0: half, 1: half, "cpu": 0}, explicit=True)
    results = []
    for gpu in (0, 1):
        here = dict.fromkeys(placement, "cpu")
        simulated = dict.fromkeys(placement, 1)
        for part, place in placement.items():
            if place == gpu:
                here[part] = 0
                simulated[part] = 0
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        model = dispatch_model(model, here, main_device="cpu")  # else the GPU would compute all of it
        peaks = predict(config, device, placement=simulated, batch=1, prompt=prompt, new=1)
        with peak_memory(device, peaks["weights"]) as peak:
            generate(model, batch=1, prompt=prompt, new=1, sampling=False)
        name = f"half {gpu} of two, 1 x {prompt}, prefill"
        results.append(compare(name, peak.bytes, peaks["prefill"], peaks["weights"]))
        del model
    return results


def driver_version() -> str:
    """Of the first GPU."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    return answer.stdout.split("\n")[0]


def describe(device: str) -> dict:
    """With what it was measured."""
    import accelerate  # imported late: only their versions are needed
    import transformers

    gpu = "no GPU"
    driver = "none"
    if device == "cuda":
        gpu = torch.cuda.get_device_name()
        driver = driver_version()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
    }
    return {"gpu": gpu, "driver": driver, "versions": versions, "date": datetime.date.today().isoformat()}


def measure(arguments: argparse.Namespace) -> list[dict]:
    """All measurements that the arguments ask for."""
    config = vram.load_config("real")
    points = POINTS
    file_bytes = FILE_BYTES
    if arguments.tiny:
        config = vram.load_config(EMBEDDED_MODEL)
        points = [
            point._replace(prompt=min(point.prompt, 512), new=min(point.new, 8))
            for point in POINTS
            if point.batch < 16
        ]
        file_bytes = 10**6
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "model.safetensors.index.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_checkpoint(folder, config, file_bytes)
        results = measure_all(config, folder, arguments.device, points)
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
            if not arguments.skip_halves:
                results += measure_halves(config, folder, arguments.device, 256)
    return results


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
    results = measure(arguments)
    print(f"{'':<44} {'measured':>10} {'forecast':>10} {'error':>8} {'above weights':>14}")
    for row in results:
        sizes = f"{row['measured'] / GIB:>10.4f} {row['forecast'] / GIB:>10.4f}"
        print(f"{row['name']:<44} {sizes} {row['error']:>+8.2%} {row['error_above_weights']:>+14.2%}")
    out = arguments.out
    if out is None and not arguments.tiny:
        out = RESULTS
    if out:
        record = {**describe(arguments.device), "points": results}
        out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
