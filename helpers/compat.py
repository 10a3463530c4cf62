"""Every private name of a foreign package that the course must touch, in one place.

A private name may change with any release of its package. So each one is listed in `PRIVATE_NAMES` with the
version that it was checked with and the reason why nothing public does the job; the test
`tests/test_compat.py` says which name is gone when an upgrade breaks it. The functions below are the only
code that uses them.

Heavy packages are imported inside the functions, so that importing this module costs nothing.
"""

import contextlib
import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock


class PrivateName(NamedTuple):
    """One private name: `module` and `name` (dotted, from the module on), where it comes from, and why."""

    module: str
    name: str
    package: str
    checked_with: str  # version of the package
    reason: str


PRIVATE_NAMES: list[PrivateName] = []


def is_there(entry: PrivateName) -> bool:
    """Whether the installed package still has this name."""
    found = importlib.import_module(entry.module)
    for part in entry.name.split("."):
        if part in getattr(found, "__annotations__", {}):
            return True  # an attribute that objects get when they are made
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


# --- environment: the planner behind device_map="auto" ---

PRIVATE_NAMES += [
    PrivateName(
        module="transformers.integrations.accelerate",
        name="_get_device_map",
        package="transformers",
        checked_with="5.23.0",
        reason='what from_pretrained(device_map="auto") does, for memory that this machine does not have',
    ),
    PrivateName(
        module="transformers.integrations.accelerate",
        name="accelerate_max_memory",
        package="transformers",
        checked_with="5.23.0",
        reason="the planner asks it for the GPUs that are really here",
    ),
]


def auto_device_map(model, memory: dict[int | str, int], explicit: bool) -> dict[str, int | str]:
    """What from_pretrained(device_map="auto") makes of `model` (on meta) on a machine with this free memory.

    `memory`: free bytes of each GPU (0, 1 ...) and of "cpu". `explicit`: it is passed as `max_memory`, else
    transformers finds it out and leaves some of it alone. Returns module name -> GPU, "cpu" or "disk".
    """
    from transformers.integrations import accelerate as planner  # imported late: it takes seconds

    def free_memory(asked: dict | None = None) -> dict:
        if asked is None:
            return dict(memory)
        return dict(asked)

    passed = None
    if explicit:
        passed = dict(memory)
    quiet = mock.patch.object(planner.logger, "warning")  # about buffers of a few hundred bytes
    with quiet, mock.patch.object(planner, "accelerate_max_memory", free_memory):
        return dict(planner._get_device_map(model, "auto", passed, None))


# --- vram: operations, masks and experts of a model on PyTorch's meta device ---

PRIVATE_NAMES += [
    PrivateName(
        module="torch.utils._python_dispatch",
        name="TorchDispatchMode",
        package="torch",
        checked_with="2.13.0",
        reason="the only way to see every operation; PyTorch documents it, under this private module",
    ),
    PrivateName(
        module="torch",
        name="ops.aten._local_scalar_dense.default",
        package="torch",
        checked_with="2.13.0",
        reason="the operation behind tensor.item(), to which a meta tensor has no answer",
    ),
    PrivateName(
        module="transformers.integrations.moe",
        name="_grouped_mm",
        package="transformers",
        checked_with="5.23.0",
        reason="the product of grouped_mm experts, whose kernel for meta knows bf16 only",
    ),
    PrivateName(
        module="transformers.integrations.moe",
        name="ALL_EXPERTS_FUNCTIONS.register",
        package="transformers",
        checked_with="5.23.0",
        reason="the eager loop over experts looks at numbers, which meta tensors do not have",
    ),
    PrivateName(
        module="transformers",
        name="PreTrainedModel._can_set_experts_implementation",
        package="transformers",
        checked_with="5.23.0",
        reason="says whether a model has experts whose implementation can be chosen",
    ),
    PrivateName(
        module="transformers",
        name="PreTrainedConfig._experts_implementation",
        package="transformers",
        checked_with="5.23.0",
        reason="which implementation was chosen; generate() switches it for decoding",
    ),
    PrivateName(
        module="transformers",
        name="PreTrainedModel._supports_sdpa",
        package="transformers",
        checked_with="5.23.0",
        reason="whether a model can be asked for sdpa attention; from_pretrained looks at it too",
    ),
    PrivateName(
        module="transformers",
        name="PreTrainedModel._supports_flash_attn",
        package="transformers",
        checked_with="5.23.0",
        reason="the same for flash_attention_2",
    ),
]

# --- prompt_box: which thread of the kernel handles a click ---

PRIVATE_NAMES += [
    PrivateName(
        module="ipykernel.comm.comm",
        name="BaseComm._reply_subshell_for",
        package="ipykernel",
        checked_with="7.4.0",
        reason="it lets a click overtake the text that it is meant for",
    ),
]


def dispatch_mode() -> type:
    """Class whose `__torch_dispatch__(function, types, args, kwargs)` sees every operation while it is on."""
    from torch.utils._python_dispatch import TorchDispatchMode  # imported late: torch takes seconds

    return TorchDispatchMode


def question_for_a_number():
    """The operation that asks for the number in a tensor, as `if tensor:` and tensor.item() do."""
    import torch  # imported late: it takes seconds

    return torch.ops.aten._local_scalar_dense.default


def register_experts(name: str, function) -> None:
    """Make `function(experts, hidden, top_k_index, top_k_weights)` an experts implementation, by name."""
    from transformers.integrations import moe  # imported late: it takes seconds

    moe.ALL_EXPERTS_FUNCTIONS.register(name, function)


def replace_grouped_product(function):
    """Context manager: `function(rows, weights, offs)` does the product of grouped_mm experts."""
    from transformers.integrations import moe  # imported late: it takes seconds

    return mock.patch.object(moe, "_grouped_mm", function)


def attentions_of(config) -> list[str]:
    """The attention implementations that the model of a config has."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING  # imported late: it takes seconds

    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    found = ["eager"]
    if model_class._supports_sdpa:
        found.append("sdpa")
    if model_class._supports_flash_attn:
        found.append("flash_attention_2")
    return found


def has_fused_experts(model) -> bool:
    """Whether a model has experts whose implementation (grouped_mm, batched_mm, eager) can be chosen."""
    return model._can_set_experts_implementation()


def experts_implementation(model) -> str | None:
    """The experts implementation that a model uses now."""
    return model.config._experts_implementation


def fused_experts(model) -> dict[str, object]:
    """The modules that hold the routed experts of a layer, by name; empty for a dense model."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "has_gate")}


# --- download: settings that ModelScope's client reads when it is imported, or does not offer at all ---

CLIENT = "modelscope_hub._download"

PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="tqdm",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="the client draws a bar for each file and has no switch for it; the course shows one bar",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DOWNLOAD_PARALLELS",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="pieces of one file fetched in parallel do not survive a change of this setting",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DOWNLOAD_TOTAL_TIMEOUT",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="an hour for a file is too short for 4 GB on a slow line",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="a second download waits for the first one, which may take longer than the client waits",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="DownloadManager._lock_path",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="the client waits for a lock without a word; the course says who holds it",
    )
)
PRIVATE_NAMES.append(
    PrivateName(
        module=CLIENT,
        name="_file_lock_enabled",
        package="modelscope-hub",
        checked_with="0.5.1",
        reason="whether the client locks files at all",
    )
)


def client_lock_file(cache: Path, model_id: str, path: str) -> Path | None:
    """The file that ModelScope's client locks while it fetches this file; None if its locks are off."""
    client = importlib.import_module(CLIENT)
    if not client._file_lock_enabled():
        return None
    # Called without an object: with a cache folder given, the method looks at nothing else.
    return client.DownloadManager._lock_path(None, model_id, "model", cache_dir=cache, file_path=path)


@contextlib.contextmanager
def quiet_patient_client(seconds_a_file: int) -> Iterator[None]:
    """While this lasts, ModelScope's client draws no bars and may take so many seconds for each file."""
    client = importlib.import_module(CLIENT)
    settings = {
        "tqdm": partial(client.tqdm, disable=True),
        "DOWNLOAD_PARALLELS": 1,
        "DOWNLOAD_TOTAL_TIMEOUT": seconds_a_file,
        "DOWNLOAD_FILE_LOCK_TIMEOUT_SECONDS": seconds_a_file,
    }
    before = {name: getattr(client, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(client, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(client, name, value)


def keep_in_order(control) -> None:
    """Let the kernel handle what this widget reports in the subshell (a thread) that the page names.

    ipykernel 7.4 hands it to the subshell that last updated the widget instead: a click then overtakes the
    text that it is meant for, or goes to a subshell that ended when the page was reloaded, and is lost. Older
    versions never ask for this method, so there it changes nothing.
    """
    control.comm._reply_subshell_for = lambda data, subshell: subshell


# --- routing: whether a model was compiled, so that hooks do not run ---

PRIVATE_NAMES += [
    PrivateName(
        module="torch._dynamo.eval_frame",
        name="OptimizedModule",
        package="torch",
        checked_with="2.13.0",
        reason="torch.compile(model) returns one, and nothing public tells a compiled model",
    ),
    PrivateName(
        module="torch.nn",
        name="Module._compiled_call_impl",
        package="torch",
        checked_with="2.13.0",
        reason="model.compile() sets it, and nothing public tells a compiled model",
    ),
    PrivateName(
        module="torch._dynamo.eval_frame",
        name="innermost_fn",
        package="torch",
        checked_with="2.13.0",
        reason="it undoes model.forward = torch.compile(model.forward), and nothing public tells it",
    ),
]


def is_compiled(model) -> bool:
    """Whether torch.compile has replaced the code of a model, or of a part of it."""
    return any(_is_compiled_module(module) for module in model.modules())


def _is_compiled_module(module) -> bool:
    # Imported late: torch takes seconds to import.
    from torch._dynamo.eval_frame import OptimizedModule, innermost_fn

    if isinstance(module, OptimizedModule) or module._compiled_call_impl is not None:
        return True
    forward = module.forward
    was_disabled = getattr(forward, "_torchdynamo_disable", False)  # by torch.compiler.disable: not compiled
    return innermost_fn(forward) is not forward and not was_disabled


# --- inference: whether the cache of a chat can be used again ---

PRIVATE_NAMES += [
    PrivateName(
        module="torch.nn",
        name="Module._forward_hooks",
        package="torch",
        checked_with="2.13.0",
        reason="somebody watches or changes what a module computes; nothing public tells it",
    ),
    PrivateName(
        module="torch.nn",
        name="Module._forward_pre_hooks",
        package="torch",
        checked_with="2.13.0",
        reason="the same for what goes into a module",
    ),
    PrivateName(
        module="torch",
        name="Tensor._version",
        package="torch",
        checked_with="2.13.0",
        reason="how often weights were changed in place; what was computed before is then no longer theirs",
    ),
]


def has_hooks(model) -> bool:
    """Whether somebody watches or changes what a model, or a part of it, computes."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def changes_of(weight) -> int | None:
    """How often a tensor was changed in place; None for one that does not count it."""
    if weight.is_inference():
        return None
    return weight._version
