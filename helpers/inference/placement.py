"""Where the weights of a model can go, decided from file sizes and free memory before anything is loaded."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

from helpers import CourseError

GIB = 2**30
RESERVE = GIB  # per GPU: loading needs up to 0.65 GiB above the weights, and an answer needs room too


def weights_bytes(model_dir: Path) -> int:
    """Bytes of the safetensors files of a complete model folder; CourseError when anything is missing."""
    shards, promised = ["model.safetensors"], 0
    if (index := model_dir / "model.safetensors.index.json").is_file():
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            shards, promised = sorted(set(content["weight_map"].values())), content["metadata"]["total_size"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise CourseError(
                f"{index.name} of {model_dir.name} is damaged: run notebook 03 again."
            ) from None
    tokenizer = "vocab.json" if (model_dir / "vocab.json").is_file() else "tokenizer.json"
    missing = [name for name in ("config.json", tokenizer, *shards) if not (model_dir / name).is_file()]
    size = 0 if missing else sum((model_dir / name).stat().st_size for name in shards)
    if missing or size < promised:
        what = f"no {', '.join(missing[:3])}" if missing else f"{size:,} of {promised:,} bytes of weights"
        raise CourseError(f"The model folder {model_dir.name} is incomplete ({what}): run notebook 03 again.")
    return size


def machine() -> tuple[list[int], int, bool]:
    """Free bytes of each GPU, free bytes of RAM, and whether every GPU computes in bf16 (SM 8.0 or newer)."""
    import torch
    from accelerate.utils import get_max_memory

    torch.cuda.empty_cache()  # give back what torch keeps but no longer uses
    memory, gpus = get_max_memory(), range(torch.cuda.device_count())
    ram = memory.get("cpu", memory.get("mps", 0))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # a container may get less than its host has
        with contextlib.suppress(OSError, ValueError):
            ram = min(ram, int(Path("/sys/fs/cgroup", limit).read_text()))
    bf16 = all(torch.cuda.get_device_capability(gpu) >= (8, 0) for gpu in gpus)
    return [memory.get(gpu, 0) for gpu in gpus], ram, bf16


def plan_placement(weights: int, gpu_free: list[int], ram: int, bf16: bool = True) -> tuple[str, str, str]:
    """Return (device_map, dtype, reason) for `weights` bytes of bf16 parameters; all sizes in bytes.

    Like device_map="auto", it spreads layers evenly: no GPU but the last gets more than its share. A tenth of
    each memory stays free. GPUs without bf16 get float32, twice the size: in float16 Qwen models overflow.
    Raises CourseError when neither the GPUs nor the RAM can hold the model.
    """
    need, dtype = (weights, "bfloat16") if bf16 else (2 * weights, "float32")
    room = [max(0, free - max(free / 10, RESERVE)) for free in gpu_free]
    fits = sum(min(size, need / len(room)) for size in room[:-1]) + sum(room[-1:])
    size = f"{weights / GIB:.2f} GiB in bfloat16"
    if room and fits >= need:
        return "auto", dtype, f"{size}, loaded in {dtype} on {len(room)} GPU(s)"
    if bf16 and fits and need - fits <= 0.9 * ram:
        return (
            "auto",
            dtype,
            f"{size}: {fits / GIB:.1f} GiB on the GPUs, the rest in RAM; it works, but slowly",
        )
    if weights <= 0.9 * ram:
        return "cpu", "bfloat16", f"{size}, loaded on the CPU"
    free = ", ".join(f"GPU {gpu} {size / GIB:.1f} GiB" for gpu, size in enumerate(gpu_free)) or "no GPU"
    raise CourseError(
        f"The model needs {need / GIB:.1f} GiB for {dtype} weights plus 1 GiB per GPU, but free are {free}, "
        f"RAM {ram / GIB:.1f} GiB: free memory, take a larger machine, or set COURSE_MODEL=embedded."
    )


def gpu_holders() -> str:
    """Say which processes hold GPU memory, as far as nvidia-smi shows them."""
    query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        lines = []
    apps = [line.split(", ") for line in lines if line.count(", ") == 2]
    names = [f"{pid} ({'this one' if pid == str(os.getpid()) else name}, {used})" for pid, name, used in apps]
    who = (
        f"process {', '.join(names)}"
        if names
        else "processes that nvidia-smi does not show in this container"
    )
    return f"GPU memory is held by {who}."


def choose_attention(flash_attn_installed: bool, capabilities: list[tuple[int, int]]) -> tuple[str, str]:
    """Return (implementation, reason) from what is installed and the compute capability (SM) of each GPU."""
    if not capabilities:
        return "sdpa", "PyTorch's own; flash-attn runs on GPUs only"
    if min(capabilities) < (8, 0):
        return "sdpa", "PyTorch's own; flash-attn needs GPUs of compute capability 8.0 or more"
    if not flash_attn_installed:
        return "sdpa", "PyTorch's own, which has a flash kernel too; flash-attn is not installed"
    return "flash_attention_2", "flash-attn is installed and every GPU supports it"
