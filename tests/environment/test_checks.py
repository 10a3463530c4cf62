"""The check: described machines and the verdicts on them."""

from dataclasses import replace

import pytest
from machines import AUTODL, MACHINES, RTX_3090, found

from helpers.environment import check, checks, show_environment


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
    able = "cannot" if counts[0] else "can"
    assert f"This machine {able} run the {model} model: {counts[0]} fail, {counts[1]} warning." in text


def test_figures_of_one_24_gb_card():
    line = found(replace(AUTODL, gpus=(RTX_3090,)))["GPU"]
    assert line.found == "1 x RTX 3090, 24.0 GiB"
    assert "28.2 GiB: 26.67 of weights" in line.needed and "second card" in line.repair
    assert "29.7 GiB" in found(AUTODL)["GPU"].needed


def test_weights_are_those_of_the_checkpoint():
    layer = 16_783_360 + 519_045_120 + 34_603_008 + 122_880 + 2_048 + 4_096
    assert checks.WEIGHT_BYTES == 2 * (24 * layer + 2 * 311_164_928 + 2_048) == 28_631_568_384


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
    assert found(replace(AUTODL, torch_cuda=cuda, driver=driver))["driver"].verdict == verdict
