"""The measurement itself: tensors count, a kernel's scratch memory does not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers.vram.measuring import MemoryEvent, is_scratch, measured_peak


def test_tensors_that_live_at_the_same_time_add_up():
    def two_then_one():
        first = torch.ones(1000)
        second = torch.ones(3000)
        del first, second
        torch.ones(2000)

    assert measured_peak(two_then_one) == 4 * (1000 + 3000)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_product_counts_as_its_result(dtype):
    """Whatever scratch this processor's kernel takes."""
    rows = torch.ones(784, 256, dtype=dtype)
    weight = torch.ones(176, 256, dtype=dtype)
    result = 784 * 176 * dtype.itemsize
    assert measured_peak(lambda: torch.nn.functional.linear(rows, weight)) == result


def test_scratch_is_what_one_kernel_takes_and_gives_back():
    taken = MemoryEvent(time=1, size=512, address=7, kernel=3)
    assert is_scratch(taken, MemoryEvent(time=2, size=-512, address=7, kernel=3))
    assert not is_scratch(taken, MemoryEvent(time=2, size=-512, address=7, kernel=4))
    assert not is_scratch(taken, MemoryEvent(time=2, size=-512, address=7, kernel=None))
    outside = taken._replace(kernel=None)
    assert not is_scratch(outside, MemoryEvent(time=2, size=-512, address=7, kernel=None))


RAM_OF_A_FORECAST = """
from pathlib import Path
from helpers import vram
vram.forecast("real", ["24GiB"] * 2, prompt=8192)
status = Path("/proc/self/status").read_text()
print(next(line for line in status.splitlines() if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process")
def test_a_forecast_needs_less_than_1_gb_of_ram():
    """VmHWM is the peak of the child's own memory. Its ru_maxrss would start at the size of this process."""
    command = [sys.executable, "-c", RAM_OF_A_FORECAST]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # VmHWM:  412345 kB
    assert int(shown.split()[1]) * 1024 < 10**9
