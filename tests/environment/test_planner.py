"""Where "auto" puts a model: the arithmetic against accelerate's own planner, on random machines."""

import random
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from helpers import EMBEDDED_MODEL, GIB
from helpers.environment import (
    REAL_MODEL,
    arithmetic_planner,
    real_planner,
    size_from_parameters,
    size_of_folder,
)
from helpers.environment.planner import installed_planner

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "helpers/vram/qwen1.5-moe-a2.7b-chat.config.json"


def meta_model(dtype, config=CONFIG):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(config), dtype=getattr(torch, dtype)
        )


def random_memory(generator):
    """Free memory of up to five GPUs, some tiny or full, and of the RAM."""
    kinds = [lambda: generator.uniform(0, 4), lambda: generator.uniform(4, 16)]
    kinds += [lambda: generator.uniform(16, 40), lambda: 23.3, lambda: 0]
    gpus = [int(generator.choice(kinds)() * GIB) for _ in range(generator.randint(0, 5))]
    return dict(enumerate(gpus)) | {"cpu": int(generator.uniform(1, 70) * GIB)}


@pytest.fixture(scope="module")
def planners():
    return arithmetic_planner(REAL_MODEL), real_planner(meta_model)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("explicit", [False, True])
def test_arithmetic_agrees_with_the_planner_on_random_machines(dtype, explicit, planners):
    arithmetic, real = planners
    generator = random.Random(12)
    for _ in range(100):
        memory = random_memory(generator)
        assert arithmetic(dtype, memory, explicit) == real(dtype, memory, explicit), memory


def test_the_installed_planner_plans_the_real_model(planners):
    memory = {0: 20 * GIB, 1: 3 * GIB, "cpu": 8 * GIB}
    for dtype in ("bfloat16", "float32"):
        assert installed_planner()(dtype, memory, False) == planners[0](dtype, memory, False)


def test_no_planner_before_the_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert installed_planner() is None


def test_size_of_the_real_model():
    parameters = [(name, values.numel()) for name, values in meta_model("bfloat16").named_parameters()]
    assert size_from_parameters(REAL_MODEL.name, parameters, experts=60, chosen=4) == REAL_MODEL
    assert 2 * REAL_MODEL.total == 28_631_568_384


def test_size_of_a_folder():
    size = size_of_folder(EMBEDDED_MODEL)
    model = meta_model("bfloat16", EMBEDDED_MODEL)
    assert size.total == sum(values.numel() for values in model.parameters())
    assert len(size.layers) == model.config.num_hidden_layers
