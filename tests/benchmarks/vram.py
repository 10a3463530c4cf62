"""Time and memory of a forecast: python tests/benchmarks/vram.py"""

import statistics
import time
from pathlib import Path

from helpers import vram

wall_seconds = []
cpu_seconds = []
for prompt in (512, 2048, 2048, 8192, 32768):
    wall = time.perf_counter()
    cpu = time.process_time()
    vram.forecast("real", gpus=["24GiB", "24GiB"], prompt=prompt)
    wall_seconds.append(time.perf_counter() - wall)
    cpu_seconds.append(time.process_time() - cpu)
print(
    f"a forecast: median {statistics.median(wall_seconds):.2f} s, "
    f"of CPU time {statistics.median(cpu_seconds):.2f} s"
)
status = Path("/proc/self/status").read_text(encoding="ascii")
peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))  # VmHWM:  412345 kB
print(f"peak RAM: {int(peak.split()[1]) * 1024 / 1e6:.0f} MB")
