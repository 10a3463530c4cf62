"""The check: described machines and the verdicts on them."""

import re
from dataclasses import replace

import pytest
from machines import AUTODL, MACHINES, RTX_3090, check_lines

from helpers.environment import REAL_MODEL, Kind, check, decide, hardware_checks, show_environment, verdicts


@pytest.mark.parametrize("name", MACHINES)
def test_verdicts(name):
    described, model, expected = MACHINES[name]
    verdicts = {line.name: line.verdict for line in check(described, model)}
    assert {n: v for n, v in verdicts.items() if v != "OK"} == expected
    assert {"Python", "torch", "GPU", "RAM", "model disk", "flash-attn", "JupyterLab"} <= set(verdicts)


@pytest.mark.parametrize("name", MACHINES)
def test_whatever_is_not_ok_has_a_repair(name, capsys):
    described, model, _ = MACHINES[name]
    lines = show_environment(described, model)
    assert all(line.repair for line in lines if line.verdict != "OK")
    text = capsys.readouterr().out
    for line in text.splitlines():
        assert len(line) <= 110 or "pip install" in line, line
    counts = [sum(line.verdict == verdict for line in lines) for verdict in ("fail", "warning")]
    able = "can(not)?"
    if counts[0]:
        able = "cannot"
    last = (
        rf"This machine {able} (run|prepare for) the {model} model.*: {counts[0]} fail, {counts[1]} warning\."
    )
    assert re.search(last, text)


def test_figures_of_one_24_gb_card():
    line = check_lines(replace(AUTODL, gpus=(RTX_3090,)))["GPU"]
    assert line.found == "1 x RTX 3090, 24.0 GiB"
    assert line.needed == "26.67 GiB of weights, 0.5 and a tenth more"
    assert "RAM beside the GPUs" in line.repair
    assert check_lines(AUTODL)["GPU"].needed == "26.67 GiB of weights, 1.5 a card more"


def test_weights_are_those_of_the_checkpoint():
    layer = 16_783_360 + 519_045_120 + 34_603_008 + 122_880 + 2_048 + 4_096
    assert verdicts.WEIGHT_BYTES == 2 * (24 * layer + 2 * 311_164_928 + 2_048) == 28_631_568_384


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("another notebook's kernel holds the GPUs", "4711 (the kernel of 02_vram.ipynb, 17408 MiB)"),
        ("an old display card beside two RTX 3090", "export CUDA_VISIBLE_DEVICES=0,1 "),
        ("GPUs hidden by CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES"),
        ("no-GPU start on AutoDL, real model", "download now"),
        ("2 x V100 16 GB", "53.3 GiB in float32"),
    ],
)
def test_the_line_of_the_gpus_says_what_to_do(name, says):
    described, model, _ = MACHINES[name]
    assert says in check_lines(described, model)["GPU"].repair


@pytest.mark.parametrize(
    ("changes", "model", "why"),
    [
        ({}, "real", "has a GPU"),
        ({"gpus": ()}, "real", "AutoDL instance"),
        ({"gpus": (), "autodl": False}, "embedded", "has no GPU"),
        ({"gpus": (), "autodl": False, "gpu_remedy": "restart"}, "real", "may have a GPU"),
    ],
)
def test_which_model_is_checked_for(changes, model, why, monkeypatch, capsys):
    monkeypatch.delenv("COURSE_MODEL", raising=False)
    show_environment(replace(AUTODL, **changes))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"Checked for the {model} model, because")
    assert why in last
    assert "--model" in last


def test_a_no_gpu_start_prepares_for_the_real_model(capsys):
    described, model, _ = MACHINES["no-GPU start on AutoDL, real model"]
    show_environment(described, model)
    assert "This machine can prepare for the real model, and run it with GPUs" in capsys.readouterr().out


@pytest.mark.parametrize("name", MACHINES)
def test_the_verdict_on_the_gpus_is_the_capacity(name):
    """The check must not disagree with the loader and the forecast, which ask the same function."""
    described, model, _ = MACHINES[name]
    if model != "real" or described.ram == 0:
        return
    capacity = decide(REAL_MODEL, hardware_checks.memory_of(described, verdicts.Needs.of("real")))
    line = check_lines(described, "real")["GPU"]
    if line.verdict == "OK":
        assert capacity.kind is Kind.GPUS
    if line.verdict == "fail":
        assert not capacity.loads
    if capacity.kind is Kind.GPUS:
        assert line.verdict == "OK" or "memory not shown" in line.found


@pytest.mark.parametrize(
    ("cuda", "driver", "verdict"),
    [
        ("11.8", "450.80.02", "OK"),
        ("11.8", "450.51.06", "fail"),
        ("12.1", "525.60.13", "OK"),
        ("12.6", "525.60.12", "fail"),
        ("12.8", "535.54.03", "OK"),
        ("13.0", "575.64", "fail"),
        ("13.0", "580.65.06", "OK"),
        ("13.2", "580.65.06", "OK"),
    ],
)
def test_driver_against_cuda(cuda, driver, verdict):
    assert check_lines(replace(AUTODL, torch_cuda=cuda, driver=driver))["driver"].verdict == verdict
