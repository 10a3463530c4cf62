"""How much memory is free, as far as loading a model must know."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

CGROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may use


class FreeMemory(NamedTuple):
    """Free memory of the GPUs that this process may use, and of the RAM, in bytes."""

    gpus: tuple[int, ...]
    ram: int
    bf16: bool = True  # whether every GPU computes in bf16 (compute capability 8.0 or newer)


def read_free_memory() -> FreeMemory:
    """What is free on this machine now. A container may get less RAM than its host has."""
    import torch  # imported late: torch and accelerate take seconds
    from accelerate.utils import get_max_memory

    torch.cuda.empty_cache()  # give back what torch keeps but no longer uses
    free = get_max_memory()
    ram = free.get("cpu", free.get("mps", 0))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup v2, v1
        with contextlib.suppress(OSError, ValueError):
            ram = min(ram, int((CGROUP / limit).read_text()))
    gpus = range(torch.cuda.device_count())
    bf16 = all(torch.cuda.get_device_capability(gpu) >= (8, 0) for gpu in gpus)
    return FreeMemory(tuple(free.get(gpu, 0) for gpu in gpus), ram, bf16)


def gpu_holders() -> str:
    """Say which processes hold GPU memory, as far as nvidia-smi shows them."""
    query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    lines = []
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.splitlines()
    processes = []
    for line in lines:
        if line.count(", ") != 2:
            continue
        pid, name, used = line.split(", ")
        if pid == str(os.getpid()):
            name = "this one"
        processes.append(f"{pid} ({name}, {used})")
    if not processes:
        return "GPU memory is held by processes that nvidia-smi does not show in this container."
    return f"GPU memory is held by process {', '.join(processes)}."
