"""Where the weights go, on described machines."""

import os

import pytest
import torch
from accelerate import infer_auto_device_map, init_empty_weights
from accelerate.utils import get_balanced_memory
from transformers import AutoModelForCausalLM, Qwen2MoeConfig

from helpers import GIB, CourseError
from helpers.inference import loading, memory
from helpers.inference.attention import choose_attention
from helpers.inference.loading import load
from helpers.inference.memory import FreeMemory, gpu_holders, read_free_memory
from helpers.inference.placement import place

REAL_WEIGHTS = 28_632_144_944  # bytes of the eight shards of Qwen1.5-MoE-A2.7B-Chat


def described(gpus: tuple[float, ...], ram: float, bf16: bool = True) -> FreeMemory:
    """Free memory given in GiB."""
    return FreeMemory(tuple(int(free * GIB) for free in gpus), int(ram * GIB), bf16)


@pytest.mark.parametrize(
    ("machine", "gpus", "ram", "bf16", "expected"),
    [
        ("two RTX 3090", (23.3, 23.3), 60, True, "on 2 GPU(s)"),
        ("four 12 GB cards", (11.6,) * 4, 60, True, "on 4 GPU(s)"),
        ("one 80 GB card", (79,), 60, True, "on 1 GPU(s)"),
        ("one 48 GB card, little RAM", (47.5,), 8, True, "on 1 GPU(s)"),
        ("one RTX 3090, much RAM", (23.3,), 60, True, "slowly"),
        ("two cards of 12 GB", (11.6, 11.6), 60, True, "slowly"),
        ("two 3090, one of them taken", (23.3, 0.2), 60, True, "slowly"),
        ("two 3090, both taken", (0.2, 0.2), 60, True, "on the CPU"),
        ("no GPU, 64 GB RAM", (), 60, True, "on the CPU"),
        ("two 16 GB V100", (15.7, 15.7), 60, False, "on the CPU"),
        ("four 32 GB V100", (31.5,) * 4, 60, False, "in float32 on 4 GPU(s)"),
    ],
)
def test_where_the_real_model_goes(machine, gpus, ram, bf16, expected):
    placement = place(REAL_WEIGHTS, described(gpus, ram, bf16))
    assert expected in placement.reason
    assert (placement.device_map == "cpu") == ("CPU" in expected)
    assert (placement.dtype == "float32") == ("float32" in expected)


@pytest.mark.parametrize(
    ("machine", "gpus", "ram", "bf16", "need"),
    [
        ("one RTX 3090, little RAM", (23.3,), 4, True, "26.7"),
        ("two 16 GB V100, little RAM", (15.7, 15.7), 16, False, "53.3"),
        ("laptop", (), 12, True, "26.7"),
        ("two 3090, both taken, little RAM", (0.2, 0.2), 16, True, "26.7"),
    ],
)
def test_where_the_real_model_cannot_go(machine, gpus, ram, bf16, need):
    with pytest.raises(CourseError) as error:
        place(REAL_WEIGHTS, described(gpus, ram, bf16))
    sentence = str(error.value)
    assert need in sentence
    assert f"RAM {ram:.1f} GiB" in sentence
    for number, free in enumerate(gpus):
        assert f"GPU {number} {free:.1f} GiB" in sentence
    assert sentence.endswith(".")
    assert "COURSE_MODEL=embedded" in sentence


@pytest.mark.parametrize("gpus", [(), (0.2, 0.2), (5,), (23.3, 23.3)])
def test_the_toy_fits_everywhere(gpus):
    assert place(6_000_000, described(gpus, 1 / 8))


@pytest.fixture(scope="module")
def real_model_without_weights():
    with init_empty_weights():  # the default values of Qwen2MoeConfig are those of the real model
        return AutoModelForCausalLM.from_config(Qwen2MoeConfig(), dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "gpus", [(23.3, 23.3), (79,), (47.5,), (11.6,) * 4, (23.3,), (11.6, 11.6), (20, 8), (8, 23), (15, 15)]
)
def test_the_placement_agrees_with_device_map_auto(real_model_without_weights, gpus):
    """What is promised to be on the GPUs must not end up partly in RAM, as device_map="auto" may do."""
    if "on the GPUs" in place(REAL_WEIGHTS, described(gpus, 200)).reason:
        return  # parts in RAM were announced
    model = real_model_without_weights
    planned = 1.0
    if len(gpus) == 1:
        planned = 0.9  # from_pretrained plans with 90 % of the memory when there is one GPU
    free = {gpu: int(size * GIB * planned) for gpu, size in enumerate(gpus)}
    whole = {"no_split_module_classes": ["Qwen2MoeDecoderLayer"]}
    balanced = get_balanced_memory(model, max_memory={**free, "cpu": 200 * GIB}, **whole)
    device_map = infer_auto_device_map(model, max_memory=balanced, **whole)
    assert set(device_map.values()) == set(range(len(gpus)))


@pytest.mark.parametrize(
    ("installed", "capabilities", "expected"),
    [
        (True, [(8, 6), (8, 6)], "flash_attention_2"),
        (True, [(9, 0)], "flash_attention_2"),
        (True, [(8, 0), (7, 5)], "sdpa"),
        (True, [], "sdpa"),
        (False, [(8, 6), (8, 6)], "sdpa"),
        (False, [], "sdpa"),
    ],
)
def test_attention(installed, capabilities, expected):
    attention = choose_attention(installed, capabilities)
    assert attention.name == expected
    assert "flash-attn" in attention.reason


def test_the_process_that_holds_the_gpus_is_named(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '4711, python3, 13402 MiB'\necho '{os.getpid()}, python, 500 MiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "4711 (python3, 13402 MiB)" in gpu_holders()
    assert f"{os.getpid()} (this one, 500 MiB)" in gpu_holders()
    tool.write_text("#!/bin/sh\n")
    assert "does not show" in gpu_holders()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "does not show" in gpu_holders()


def test_load_refuses_before_loading_and_names_the_holder(folder, monkeypatch):
    holders = "GPU memory is held by process 4711 (python3, 9 MiB)."
    monkeypatch.setattr(loading, "weights_bytes", lambda _: REAL_WEIGHTS)
    monkeypatch.setattr(loading, "read_free_memory", lambda: described((0.2, 0.2), 16))
    monkeypatch.setattr(loading, "gpu_holders", lambda: holders)
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it was loaded")
    )
    with pytest.raises(CourseError, match=r"26\.7 GiB.*GPU 1 0\.2 GiB.*process 4711"):
        load(folder)


def test_a_container_may_have_less_memory_than_its_host(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    limit.write_text(f"{2 * GIB}\n")
    assert read_free_memory().ram <= 2 * GIB
    limit.write_text("max\n")
    assert read_free_memory().ram > 0
