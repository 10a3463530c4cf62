"""Forecast of the GPU memory that a causal language model of transformers needs for inference.

Needs no GPU, no weights and no network: the model's own code runs on tensors without bytes (simulation.py).
Sizes are bytes; GiB = 2^30 bytes, GB = 10^9 bytes.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import convert_file_size_to_int

from helpers import CourseError, compat
from helpers.environment import (
    CUDA_CONTEXT,
    Capacity,
    Card,
    Kind,
    Memory,
    decide,
    real_planner,
    size_from_parameters,
)
from helpers.environment.model_config import EXPERT_COUNTS
from helpers.language import say
from helpers.vram.configs import (
    check_choices,
    check_config,
    context_limit,
    load_config,
    load_generation_settings,
    one_line,
)
from helpers.vram.simulation import meta_model, simulate

CUBLAS_WORKSPACE = 8_519_680  # what PyTorch allocates for cuBLAS on each GPU; 32 MiB on Hopper
FRAGMENTATION = 0.10  # estimate: what the allocator holds in vain, as a share of the memory above the weights
ENOUGH = 2**60  # bytes of RAM or disk: how much does not fit on the GPUs is what the forecast is to say
PCIE = 20e9  # assumption: bytes per second from RAM to a GPU (PCIe 4.0 x16: 32 GB/s on paper)
PHASES = ("loading", "prefill", "decode")


def gpu_sizes(gpus: Sequence[int | str]) -> list[int]:
    """Bytes of each GPU, given as bytes or as texts like "24GiB". CourseError for anything else."""
    if not gpus:
        raise CourseError(say("A forecast needs at least one GPU: give sizes such as 24GiB."))
    sizes = []
    for gpu in gpus:
        try:
            size = convert_file_size_to_int(gpu)
        except ValueError as error:
            raise no_size_of_a_gpu(gpu) from error
        if size < 1:
            raise no_size_of_a_gpu(gpu)
        sizes.append(size)
    return sizes


def no_size_of_a_gpu(gpu: int | str) -> CourseError:
    """The sentence for what is no size."""
    return CourseError(say("{gpu} is no size of a GPU: give one such as 24GiB or 24GB.", gpu=gpu))


def usable_attention(config, attention: str) -> str:
    """The attention that the model gets: what was asked for, or eager where it does not have that."""
    if attention in compat.attentions_of(config):
        return attention
    return "eager"


def build(config, dtype: str, attention: str, experts: str):
    """The model on `meta`; CourseError where transformers cannot make it of this config."""
    try:
        return meta_model(config, dtype, attention, experts)
    except Exception as error:  # a damaged config can fail in any line of the model's code
        raise CourseError(
            say(
                "transformers cannot build a {kind} model from this config ({reason}): "
                "compare it with the original config.json.",
                kind=config.model_type,
                reason=one_line(error),
            )
        ) from error


def capacity_of(model, sizes: Sequence[int], dtype: str, ram: int | None) -> Capacity:
    """What GPUs of these sizes can do with the weights: the answer of environment check and loader, too.

    `ram`: see `forecast`. Nobody asks about the disk, so there is enough of it.
    """
    config = model.config
    experts = next((getattr(config, name) for name in EXPERT_COUNTS if getattr(config, name, None)), 0)
    chosen = getattr(config, "num_experts_per_tok", None) or 0
    parameters = [(name, parameter.numel()) for name, parameter in model.named_parameters()]
    size = size_from_parameters(config.model_type, parameters, experts, chosen)
    cards = [
        Card(name=f"GPU {gpu}", total=card, free=max(0, card - CUDA_CONTEXT), bf16=dtype != "float32")
        for gpu, card in enumerate(sizes)
    ]
    memory = Memory(cards=tuple(cards), ram=ram, disk=ENOUGH)

    def make_model(wanted: str):
        if wanted == dtype:
            return model
        return meta_model(config, wanted)

    return decide(size, memory, real_planner(make_model))


def place(model, sizes: Sequence[int], capacity: Capacity, ram: int | None) -> dict[str, int | str]:
    """Where the loader puts the modules: module name -> GPU, "cpu" or "disk"."""
    memory = {gpu: max(0, size - CUDA_CONTEXT) for gpu, size in enumerate(sizes)}
    memory["cpu"] = ram
    if ram is None:
        memory["cpu"] = ENOUGH
    if capacity.max_memory and set(capacity.max_memory) == set(memory):
        return compat.auto_device_map(model, capacity.max_memory, explicit=True)
    return compat.auto_device_map(model, memory, explicit=False)


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
        if gpu not in ("cpu", "disk"):
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


def gpu_rows(model, placement, parameters: dict, sizes: Sequence[int], above: dict) -> list[dict[str, int]]:
    """The forecast for every GPU, see `forecast`."""
    rows = []
    for gpu, size in enumerate(sizes):
        visiting = 0
        if gpu == 0:  # GPU 0 computes what lies in RAM
            visiting = visiting_bytes(model, placement)
        rows.append(gpu_row(gpu, size, parameters[gpu], above, visiting))
    return rows


def forecast(
    model, gpus, dtype="bfloat16", attention="sdpa", experts="grouped_mm", ram=None, **request
) -> dict:
    """Memory of generate() for a batch of equally long prompts; `request`: see `simulate`.

    `model`: a config, or what `load_config` takes; then its generation_config.json counts too. `gpus`: bytes
    or texts like "24GiB". `ram`: free bytes for what does not fit on them; None for enough. Returns a dict:

    - "gpus": one row each with the bytes of "weights", of the final "kv_cache", of the peaks `PHASES` (with
      weights), of the estimates "context" and "overhead", and "needs";
    - "placement": module name -> GPU or "cpu"; "offloaded": bytes that are not on the GPUs;
    - "capacity": what environment check and loader say of these GPUs, in one sentence;
    - "attention": the one that the model gets (eager, if it does not have the one asked for);
    - "limit": tokens that the model was made for, or None; "too_long": how many the request has beyond it;
    - "fits_memory", and "fits": the same, if the request is not too long.

    CourseError for a model that the forecast does not know, or a request that makes no sense.
    """
    check_choices(dtype, attention, experts)
    config = model
    if isinstance(model, str | Path):
        config = load_config(model)
        request = {**load_generation_settings(model), **request}
    check_config(config)
    sizes = gpu_sizes(gpus)
    attention = usable_attention(config, attention)
    built = build(config, dtype, attention, experts)
    capacity = capacity_of(built, sizes, dtype, ram)
    placement = place(built, sizes, capacity, ram)
    parameters = parameters_by_place(built, placement)
    rows = gpu_rows(built, placement, parameters, sizes, simulate(built, placement, **request))
    offloaded = sum(parameter.nbytes for place in ("cpu", "disk") for parameter in parameters[place])
    fits_memory = capacity.kind is Kind.GPUS and all(row["needs"] <= row["size"] for row in rows)
    too_long = tokens_too_many(context_limit(config), **request)
    return {
        "gpus": rows,
        "placement": placement,
        "offloaded": offloaded,
        "capacity": capacity_sentence(capacity, ram),
        "attention": attention,
        "limit": context_limit(config),
        "too_long": too_long,
        "fits_memory": fits_memory,
        "fits": fits_memory and not too_long,
    }


def capacity_sentence(capacity: Capacity, ram: int | None) -> str:
    """The answer of `decide` in words, without figures of a RAM that nobody named."""
    if ram is None and capacity.kind is Kind.RAM:
        return say(
            "In RAM alone it would run slowly: at least {seconds:.2f} s per token.", seconds=capacity.seconds
        )
    return capacity.sentence


def tokens_too_many(limit: int | None, prompt: int = 2048, new: int = 512, **request) -> int:
    """By how many tokens prompt and answer exceed what the model was made for."""
    if limit is None:
        return 0
    return max(0, prompt + new - limit)


def seconds_to_move(result: dict, bytes_per_second: float = PCIE) -> float:
    """Least time that the offloaded weights of a forecast take from RAM to the GPU: once per token."""
    return result["offloaded"] / bytes_per_second
