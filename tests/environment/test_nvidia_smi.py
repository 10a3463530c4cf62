"""nvidia-smi that works, fails, hangs: fake programs, no GPU."""

from dataclasses import replace

import pytest
from fake_tools import fake_nvidia_smi
from machines import RTX_3090

from helpers.environment import GpuReport, read_gpus


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("sleep 30", "nvidia-smi gave no answer in 0.5 s"),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "nvidia-smi lists none",
        ),
        ("echo 'No devices were found'; exit 6", "nvidia-smi lists none"),
        ("exit 0", "nvidia-smi lists none"),
    ],
)
def test_nvidia_smi_that_does_not_work(script, problem, tmp_path, monkeypatch):
    fake_nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_gpus(seconds=0.5) == GpuReport(problem=problem)


def test_nvidia_smi_that_works(tmp_path, monkeypatch):
    rows = "580.82.07, 24576, 24260, 8.6, GPU-1, NVIDIA GeForce RTX 3090\\n" * 2
    fake_nvidia_smi(tmp_path, f"printf '{rows}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    gpu = replace(RTX_3090, free=24260 * 2**20, uuid="GPU-1")
    assert read_gpus() == GpuReport(gpus=(gpu, gpu), driver="580.82.07")
