"""Where the time of one decode step goes: what PyTorch's profiler says, in the words of the course."""

import contextlib
import os
from collections.abc import Iterator

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile, record_function

#: The last part of a module's name, as in Qwen2-MoE and its relatives -> what the table calls it.
PARTS = {
    "self_attn": "attention",
    "gate": "router",
    "experts": "routed experts",
    "shared_expert": "shared expert",
    "shared_expert_gate": "shared expert",
    "input_layernorm": "norms",
    "post_attention_layernorm": "norms",
    "norm": "norms",
    "lm_head": "output layer",
}
STEP = "course: step"  # names of ranges in the profiler's recording
PART = "course: part "
REST = "everything else"
STEPS = 10


@contextlib.contextmanager
def named_parts(model) -> Iterator[None]:
    """While this lasts, the profiler sees a range for each module that PARTS names."""
    open_ranges = []
    hooks = []

    def begin(module, args):
        current = record_function(PART + names[module])
        current.__enter__()
        open_ranges.append(current)

    def end(module, args, output):
        open_ranges.pop().__exit__(None, None, None)

    names = outermost_parts(model)
    try:
        for module in names:
            hooks.append(module.register_forward_pre_hook(begin))
            hooks.append(module.register_forward_hook(end))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def outermost_parts(model) -> dict[torch.nn.Module, str]:
    """The modules that PARTS names, and what it calls them; none that lies inside another one."""
    found = {}
    prefixes = []
    for path, module in model.named_modules():
        inside = any(path.startswith(prefix) for prefix in prefixes)
        last = path.rpartition(".")[2]
        if last in PARTS and not inside:
            found[module] = PARTS[last]
            prefixes.append(path + ".")
    return found


def profile_step(model, inputs) -> pd.DataFrame:
    """Profile the decode of one token after `inputs`: where its time goes.

    `inputs`: `input_ids` (batch, tokens) and what else the model takes, on its device. A table with one row
    for each kind of part: its milliseconds, its share of the step, and how many operations of PyTorch it
    calls. The fastest of some steps is shown, the one that was disturbed least. On a GPU the milliseconds are
    those in which the GPU computed; "everything else" then also holds the time in which it waited for the
    next operation. The profiler slows a step down: read shares, not times.
    """
    quiet_profiler()
    activities = [ProfilerActivity.CPU]
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        activities.append(ProfilerActivity.CUDA)
    with torch.inference_mode():
        output = model(**inputs)
        with profile(activities=activities) as recording, named_parts(model):
            for _ in range(STEPS):
                token = output.logits[:, -1:].argmax(-1)  # (batch, 1)
                with record_function(STEP):
                    output = model(input_ids=token, past_key_values=output.past_key_values)
                    if on_gpu:
                        torch.cuda.synchronize()
    return as_table(recording.events(), on_gpu)


def quiet_profiler() -> None:
    """Switch off two lines that the profiler's library prints on every use; it reads this when it starts."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def as_table(events, on_gpu: bool) -> pd.DataFrame:
    """The fastest step of a recording as a table, the longest part first. The profiler counts in 1e-6 s."""
    ranges = [event for event in events if event.device_type == torch.autograd.DeviceType.CPU]
    steps = [event for event in ranges if event.name == STEP]
    step = min(steps, key=lambda event: event.cpu_time_total)
    microseconds = {}
    operations = {REST: 0}
    for event in step.cpu_children:
        if not event.name.startswith(PART):
            operations[REST] += is_operation(event)
            continue
        name = event.name.removeprefix(PART)
        spent = event.cpu_time_total
        if on_gpu:
            spent = event.device_time_total
        microseconds[name] = microseconds.get(name, 0.0) + spent
        called = sum(is_operation(child) for child in event.cpu_children)
        operations[name] = operations.get(name, 0) + called
    microseconds[REST] = step.cpu_time_total - sum(microseconds.values())
    rows = []
    for name, spent in sorted(microseconds.items(), key=lambda item: -item[1]):
        share = spent / step.cpu_time_total
        rows.append({"part": name, "ms": spent / 1000, "share": share, "operations": operations[name]})
    return pd.DataFrame(rows).set_index("part")


def is_operation(event) -> bool:
    """Whether this is an operation of PyTorch, called by the model itself if its parent is a range."""
    return event.name.startswith("aten::")
