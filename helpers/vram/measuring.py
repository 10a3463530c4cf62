"""What a real run on a CPU allocates: the measurement that the forecast of helpers.vram is compared with.

PyTorch's profiler reports every allocation and every release, and inside which operation it happened. Most
are tensors. The rest is *scratch*: memory that a kernel takes and gives back before it returns, for example
where oneDNN keeps the bf16 weights of a product in the order that AVX-512 or AMX wants. How much that is
depends on the processor, and on a GPU it is not there (its library for products, cuBLAS, has one fixed
workspace, which the forecast counts). So scratch is left out: the peak of the tensors is the same on every
machine.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from helpers import compat

#: Operations whose kernels take scratch memory on a CPU: products of matrices, fused attention, and
#: arithmetic with numbers of two types (a CPU first copies to the larger type, a GPU converts as it reads).
KERNELS_WITH_SCRATCH = frozenset(
    {
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "aten::baddbmm",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::add",
        "aten::sub",
        "aten::mul",
        "aten::div",
    }
)


class MemoryEvent(NamedTuple):
    """One allocation (`size` > 0, bytes) or release (`size` < 0) of the block at `address`."""

    time: int  # nanoseconds
    size: int
    address: int
    kernel: int | None  # number of the call in KERNELS_WITH_SCRATCH that it happened in, if any


def memory_events(profiler) -> list[MemoryEvent]:
    """All allocations and releases that `torch.profiler.profile(profile_memory=True)` saw, in their order."""
    found = []
    roots = profiler.profiler.kineto_results.experimental_event_tree()
    # Pairs: a node of the tree of operations, the number of the kernel around it or None. The next is last.
    waiting = [(root, None) for root in reversed(roots)]
    while waiting:
        node, kernel = waiting.pop()
        if node.tag.name == "Allocation":
            details = node.typed[1]
            found.append(MemoryEvent(node.start_time_ns, details.alloc_size, details.ptr, kernel))
        if node.name in KERNELS_WITH_SCRATCH:
            kernel = node.id
        waiting.extend((child, kernel) for child in reversed(node.children))
    return sorted(found, key=lambda event: event.time)


def is_scratch(event: MemoryEvent, release: MemoryEvent | None) -> bool:
    """Whether a block, allocated by `event`, was given back inside the same call of a kernel."""
    return event.kernel is not None and release is not None and event.kernel == release.kernel


def peak_of_tensors(profiler) -> int:
    """Highest number of bytes that the tensors created while `profiler` watched took at one time."""
    events = memory_events(profiler)
    owner = {}  # address -> index of the allocation that it belongs to now
    scratch = set()  # indices of events
    for index, event in enumerate(events):
        if event.size > 0:
            owner[event.address] = index
        elif event.address in owner:
            allocation = owner.pop(event.address)
            if is_scratch(events[allocation], event):
                scratch |= {allocation, index}
    live = 0
    peak = 0
    for index, event in enumerate(events):
        if index not in scratch:
            live += event.size
            peak = max(peak, live)
    return peak


def measured_peak(function: Callable[[], object]) -> int:
    """Run a function; the highest number of bytes that tensors took meanwhile, without those there before."""
    from torch.profiler import ProfilerActivity, profile  # imported late: torch takes seconds

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler's library writes lines of its own
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    return peak_of_tensors(profiler)


def watch_routing(model) -> dict[str, list]:
    """Filled while `model` runs: name of the experts -> one list per pass, how many tokens each one gets.

    Experts without tokens are left out. Only numbers are kept: a tensor would count as memory of the model.
    """
    turns = {}
    for name, experts in compat.fused_experts(model).items():
        turns[name] = []

        def count(module, args, name=name):
            _, top_k_index, _ = args  # (tokens, experts per token)
            tokens = top_k_index.flatten().bincount()
            turns[name].append([number for number in tokens.tolist() if number])

        experts.register_forward_pre_hook(count)
    return turns


def tell_routing(model, turns: dict[str, list]) -> None:
    """Let the forecast of `model` (of `meta_model`, eager experts) use the routing of a run.

    `turns`: what `watch_routing` noted. The forecast makes two passes, the first and the last of that run.
    """
    for name, experts in compat.fused_experts(model).items():
        passes = turns[name]
        experts.measured_turns = [passes[0], passes[-1]]
