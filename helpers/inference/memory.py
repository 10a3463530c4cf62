"""The memory of this machine as the loader sees it: of the GPUs, only what torch can use."""

from dataclasses import replace
from pathlib import Path

import psutil

from helpers import environment
from helpers.environment import Card, Memory
from helpers.language import say

BF16_CAPABILITY = (8, 0)  # compute capability from which on a GPU computes in bf16


def read_memory(disk_folder: Path | None = None) -> Memory:
    """Memory of this machine as in the environment check, but of the GPUs only what torch can use.

    `disk_folder`: where offloaded weights would go; default is where models go.
    """
    memory = environment.read_memory()
    memory = replace(memory, cards=torch_cards(memory.cards))
    if not memory.ram:  # the environment check knows Linux and its containers only
        memory = replace(memory, ram=psutil.virtual_memory().available)
    if disk_folder is not None:
        memory = replace(memory, disk=environment.free_disk(disk_folder))
    return memory


def torch_cards(listed: tuple[Card, ...] = ()) -> tuple[Card, ...]:
    """The GPUs that torch can use, with what is free on each after CUDA has taken its part.

    `listed`: the same GPUs as nvidia-smi describes them, if it does.
    """
    import torch  # imported late: it takes seconds

    if not torch.cuda.is_available():
        return ()
    torch.cuda.empty_cache()  # give back what torch keeps but no longer uses
    cards = []
    for gpu in range(torch.cuda.device_count()):
        described = torch.cuda.get_device_properties(gpu)
        try:
            free = torch.cuda.mem_get_info(gpu)[0]
        except RuntimeError:  # not even CUDA's own part fits: somebody holds all of it
            free = 0
        bf16 = (described.major, described.minor) >= BF16_CAPABILITY
        cards.append(Card(described.name, described.total_memory, free, bf16))
    if len(listed) == len(cards):
        free_bytes = [card.free for card in cards]
        cards = [replace(card, free=free) for card, free in zip(listed, free_bytes, strict=True)]
    return tuple(cards)


def unused_gpus() -> str:
    """A hint where GPUs are there that torch cannot use; "" where there is nothing to say."""
    if torch_cards():
        return ""
    found = len(environment.read_memory().cards)
    if not found:
        return ""
    return say(
        "nvidia-smi lists {count} GPU(s) that torch cannot use: run python -m helpers.environment.",
        count=found,
    )
