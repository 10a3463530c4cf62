"""Time and memory of a forecast: python tests/benchmarks/vram.py"""

import resource
import statistics
import time

from helpers import vram

walls, cpus = [], []
for prompt in (512, 2048, 2048, 8192, 32768):
    wall, cpu = time.perf_counter(), time.process_time()
    vram.forecast("real", gpus=["24GiB", "24GiB"], prompt=prompt)
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
print(f"a forecast: median {statistics.median(walls):.2f} s, of CPU time {statistics.median(cpus):.2f} s")
print(f"peak RAM: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.0f} MB")
