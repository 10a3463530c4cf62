"""The setting in which a model decodes fastest on a kind of machine, and what that was measured to bring.

Three levers count: how the experts are computed, whether the cache has a fixed size, and whether the model
is compiled. Which of them helps depends on the machine; notebook 07 shows why. How much it helps is never
guessed: it is read from the result file of the same GPU, or said not to be measured.
"""

import shutil
from dataclasses import dataclass

from helpers import compat
from helpers.environment import Capacity
from helpers.inference.result_files import decoding_gain, read_result_files
from helpers.language import say

COMPILERS = ("cc", "gcc", "clang")  # one of them translates what torch.compile writes
COMPILED_CAPABILITY = (7, 0)  # compute capability from which Triton, and so torch.compile, works


@dataclass(frozen=True)
class Setting:
    """How to run a model; the names are those of transformers."""

    experts_of_prompt: str
    experts_of_tokens: str
    """Where it is another one, `generate` switches to it after the prompt."""
    static_cache: bool
    """A cache of fixed size; on a GPU `generate` then compiles the model by itself."""
    why: str
    """A sentence about what was left out, or about what it costs."""


def recommend(capabilities: list[tuple[int, int]], places: int, has_compiler: bool) -> Setting:
    """The setting for a model that lies in so many `places` (GPUs, RAM, disk).

    `capabilities`: compute capability, as in (8, 6), of each GPU that it uses; none on a CPU.
    """
    if not capabilities:
        return Setting("grouped_mm", "grouped_mm", False, say("The further settings are for GPUs."))
    if places > 1:
        why = say("It is not compiled, because it lies in several places.")
    elif min(capabilities) < COMPILED_CAPABILITY:
        why = say("It is not compiled, because that needs a GPU of compute capability 7.0 or more.")
    elif not has_compiler:
        why = say("It is not compiled, because this machine has no C compiler: install gcc for that.")
    else:
        why = say(
            "The first answers take a minute or more, while it is compiled; the routing cannot be recorded, "
            "and each turn of a chat is computed from its beginning."
        )
        return Setting("grouped_mm", "batched_mm", True, why)
    return Setting("grouped_mm", "batched_mm", False, why)


def places_of(capacity: Capacity) -> int:
    """In how many places the weights lie: GPUs, RAM, disk."""
    sizes = [*capacity.on_gpus, capacity.in_ram, capacity.on_disk]
    return sum(1 for size in sizes if size)


def apply_recommended(model, capacity: Capacity, capabilities: list[tuple[int, int]]) -> Setting:
    """Set `model` to what is recommended where it lies, and print what that is and what it brings."""
    has_compiler = any(shutil.which(name) for name in COMPILERS)
    setting = recommend(capabilities, places_of(capacity), has_compiler)
    if compat.fused_experts(model):
        model.set_experts_implementation(setting.experts_of_prompt)
    if setting.static_cache:
        model.generation_config.cache_implementation = "static"
    gpu = ""
    if capabilities:
        import torch  # imported late: it takes seconds

        gpu = torch.cuda.get_device_name()
    print(setting_sentence(setting), setting.why, gain_sentence(setting, gpu))
    return setting


def setting_sentence(setting: Setting) -> str:
    """The setting in words."""
    if setting.static_cache:
        return say(
            "Recommended: experts {prompt} for the prompt and {tokens} for each token, a cache of fixed "
            "size, compiled.",
            prompt=setting.experts_of_prompt,
            tokens=setting.experts_of_tokens,
        )
    return say(
        "Recommended: experts {prompt} for the prompt and {tokens} for each token, a cache that grows, as is "
        "set anyway.",
        prompt=setting.experts_of_prompt,
        tokens=setting.experts_of_tokens,
    )


def gain_sentence(setting: Setting, gpu: str) -> str:
    """What the setting brings on this GPU, by its result file; "" as the name of the GPU: there is none."""
    if not setting.static_cache:
        return say("That is how the plain script runs, so nothing is gained.")
    for record in read_result_files():
        gain = decoding_gain(record, "compiled", setting.experts_of_tokens)
        if record["gpu"] == gpu and gain is not None:
            return say(
                "Measured on this GPU ({gpu}, {date}): {gain:.1f} times the tokens/s of the plain script.",
                gpu=gpu,
                date=record["date"],
                gain=gain,
            )
    return say("What that brings was not measured on this GPU.")
