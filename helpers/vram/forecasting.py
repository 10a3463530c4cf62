"""Forecast of the GPU memory that a causal language model of transformers needs for inference.

Needs no GPU, no weights and no network: the model's own code runs on tensors without bytes (simulation.py).
Sizes are bytes; GiB = 2^30 bytes, GB = 10^9 bytes.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import convert_file_size_to_int

from helpers import CourseError, compat
from helpers.environment import CUDA_CONTEXT
from helpers.vram.configs import load_config
from helpers.vram.simulation import meta_model, simulate

CUBLAS_WORKSPACE = 8_519_680  # what PyTorch allocates for cuBLAS on each GPU; 32 MiB on Hopper
FRAGMENTATION = 0.10  # estimate: what the allocator holds in vain, as a share of the memory above the weights
SINGLE_GPU_SHARE = 0.9  # transformers plans only 90 % of a single GPU
ENOUGH_RAM = 2**60  # bytes: how much does not fit on the GPUs is what the forecast is to say
PCIE = 20e9  # assumption: bytes per second from RAM to a GPU (PCIe 4.0 x16: 32 GB/s on paper)
PHASES = ("loading", "prefill", "decode")


def gpu_sizes(gpus: Sequence[int | str]) -> list[int]:
    """Bytes of each GPU, given as bytes or as texts like "24GiB". CourseError for any other text."""
    try:
        return [convert_file_size_to_int(size) for size in gpus]
    except ValueError as error:
        raise CourseError(f"{error}: give a size such as 24GiB or 24GB.") from error


def place(model, sizes: Sequence[int]) -> dict[str, int | str]:
    """Where device_map="auto" puts the modules on GPUs of these sizes: module name -> GPU or "cpu"."""
    share = 1.0
    if len(sizes) == 1:
        share = SINGLE_GPU_SHARE
    memory = {gpu: int(share * max(0, size - CUDA_CONTEXT)) for gpu, size in enumerate(sizes)}
    memory["cpu"] = ENOUGH_RAM
    return compat.auto_device_map(model, memory, explicit=True)


def parameters_by_place(model, placement) -> dict[int | str, dict]:
    """GPU (or "cpu") -> {parameter: its name}; a parameter that two modules share counts once."""
    found = defaultdict(dict)
    for module, gpu in placement.items():
        for name, parameter in model.get_submodule(module).named_parameters():
            found[gpu][parameter] = name
    return found


def visiting_bytes(model, placement) -> int:
    """Bytes of the largest module in RAM: each of them is copied to GPU 0 while it computes."""
    largest = 0
    for part, gpu in placement.items():
        if gpu != "cpu":
            continue
        for module in model.get_submodule(part).modules():
            own = sum(parameter.nbytes for parameter in module.parameters(recurse=False))
            largest = max(largest, own)
    return largest


def gpu_row(gpu: int, size: int, parameters: dict, above: dict, visiting: int) -> dict[str, int]:
    """The forecast for one GPU, see `forecast`. `above`: what `simulate` returns."""
    weights = sum(parameter.nbytes for parameter in parameters)
    # Loading fuses the experts of a layer: the largest fused tensor exists twice.
    fused = [parameter.nbytes for parameter, name in parameters.items() if "experts.gate_up" in name]
    base = weights + CUBLAS_WORKSPACE + visiting
    row = {
        "gpu": gpu,
        "size": size,
        "weights": weights,
        "kv_cache": above["kv_cache"].get(gpu, 0),
        "loading": weights + max(fused, default=0),
        "prefill": base + above["prefill"].get(gpu, 0),
        "decode": base + above["decode"].get(gpu, 0),
        "context": CUDA_CONTEXT,
    }
    peak = max(row[phase] for phase in PHASES)
    row["overhead"] = int(FRAGMENTATION * (peak - weights))
    row["needs"] = peak + row["context"] + row["overhead"]
    return row


def forecast(
    model, gpus, dtype="bfloat16", attention="sdpa", experts="grouped_mm", **request
) -> dict[str, list | dict | int | bool]:
    """Memory of generate() for a batch of equally long prompts; `request`: see `simulate`.

    `model`: a config, or what `load_config` takes. `gpus`: bytes or texts like "24GiB". Returns "placement",
    "offloaded" (bytes left in RAM), "fits" and "gpus": one row each with the bytes of "weights", of the final
    "kv_cache", of the peaks `PHASES` (with weights), of the estimates "context" and "overhead", and "needs".
    CourseError for a request that makes no sense.
    """
    config = model
    if isinstance(model, str | Path):
        config = load_config(model)
    sizes = gpu_sizes(gpus)
    built = meta_model(config, dtype, attention, experts)
    placement = place(built, sizes)
    parameters = parameters_by_place(built, placement)
    above = simulate(built, placement, **request)
    rows = []
    for gpu, size in enumerate(sizes):
        visiting = 0
        if gpu == 0:  # GPU 0 computes what lies in RAM
            visiting = visiting_bytes(built, placement)
        rows.append(gpu_row(gpu, size, parameters[gpu], above, visiting))
    offloaded = sum(parameter.nbytes for parameter in parameters["cpu"])
    fits = offloaded == 0 and all(row["needs"] <= row["size"] for row in rows)
    return {"gpus": rows, "placement": placement, "offloaded": offloaded, "fits": fits}


def seconds_to_move(result: dict, bytes_per_second: float = PCIE) -> float:
    """Least time that the offloaded weights of a forecast take from RAM to the GPU: once per token."""
    return result["offloaded"] / bytes_per_second
