"""The forecast against a real GPU: skipped without one of 80 GiB (and 40 GiB of RAM and of disk)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
LARGE_GPU = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > 75 * 2**30


@pytest.mark.skipif(not LARGE_GPU, reason="needs one CUDA GPU with 80 GiB")
def test_forecast_agrees_with_a_gpu(tmp_path):
    out = tmp_path / "results.json"
    subprocess.run([sys.executable, HERE / "measure_vram.py", "--out", out], check=True)
    points = json.loads(out.read_text(encoding="utf-8"))["points"]
    assert len(points) >= 12
    for point in points:
        assert abs(point["error"]) <= 0.01, point
        if point["name"] != "loading":
            assert abs(point["error_above_weights"]) <= 0.05, point


def test_the_script_works_on_a_tiny_model_and_the_cpu(tmp_path):
    pytest.importorskip("helpers.inference")
    out = tmp_path / "results.json"
    command = [sys.executable, HERE / "measure_vram.py", "--tiny", "--device", "cpu", "--out", out]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["gpu"] == "no GPU"
    assert len(record["points"]) >= 10
    for point in record["points"]:
        assert abs(point["error_above_weights"]) <= 0.01, point
