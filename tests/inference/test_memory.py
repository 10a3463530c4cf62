"""The memory of this machine as the loader sees it."""

from types import SimpleNamespace

import torch

from helpers import EMBEDDED_MODEL, GIB, environment
from helpers.environment import Card, Memory
from helpers.inference import check_placement
from helpers.inference.memory import read_memory


def test_the_memory_of_this_machine():
    memory = read_memory()
    assert memory.ram > 0
    assert len(memory.cards) == torch.cuda.device_count()


def test_without_linux_the_free_ram_comes_from_psutil(monkeypatch):
    monkeypatch.setattr(environment, "read_memory", lambda: Memory(ram=0, disk=7))
    memory = read_memory()
    assert memory.ram > 0
    assert memory.disk == 7


def test_the_disk_is_that_of_the_folder_for_offloading(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "free_disk", {tmp_path: 12}.get)
    assert read_memory(tmp_path).disk == 12


def test_cards_are_those_of_torch_with_what_is_free(monkeypatch):
    properties = [
        SimpleNamespace(name="NVIDIA GeForce RTX 3090", total_memory=24 * GIB, major=8, minor=6),
        SimpleNamespace(name="Tesla V100", total_memory=16 * GIB, major=7, minor=0),
    ]

    def mem_get_info(gpu):
        if gpu == 1:
            raise RuntimeError("CUDA error: out of memory")
        return 20 * GIB, 24 * GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)
    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    seen = (
        Card("NVIDIA GeForce RTX 3090", 24 * GIB, 20 * GIB, bf16=True),
        Card("Tesla V100", 16 * GIB, 0, bf16=False),
    )
    monkeypatch.setattr(environment, "read_memory", lambda: Memory(ram=GIB, holders="Somebody holds them."))
    memory = read_memory()
    assert memory.cards == seen
    assert memory.holders == "Somebody holds them."

    # What nvidia-smi says of the same cards is kept, such as their names; what is free, torch knows better.
    listed = (Card("3090", 24 * GIB, 19 * GIB), Card("V100", 16 * GIB, GIB, bf16=False))
    monkeypatch.setattr(environment, "read_memory", lambda: Memory(listed, ram=GIB))
    assert [card.name for card in read_memory().cards] == ["3090", "V100"]
    assert [card.free for card in read_memory().cards] == [20 * GIB, 0]


def test_gpus_that_torch_cannot_use_are_mentioned(monkeypatch, capsys):
    listed = Memory((Card("NVIDIA GeForce RTX 3090", 24 * GIB, 23 * GIB),), ram=60 * GIB)
    monkeypatch.setattr(environment, "read_memory", lambda: listed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_placement(EMBEDDED_MODEL)
    assert "lists 1 GPU(s) that torch cannot use" in capsys.readouterr().out
    monkeypatch.setattr(environment, "read_memory", lambda: Memory(ram=60 * GIB))  # or hidden on purpose
    check_placement(EMBEDDED_MODEL)
    assert "nvidia-smi" not in capsys.readouterr().out
