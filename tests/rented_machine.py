"""The machine that a learner rents, described: tests of several folders try it with one thing changed."""

from helpers import GB, GIB
from helpers.environment import Gpu, Machine, lowest_versions

RTX_3090 = Gpu("NVIDIA GeForce RTX 3090", 24 * GIB, 8.6)
RENTED = Machine(
    packages=lowest_versions(),
    torch_cuda="12.8",
    gpus=(RTX_3090, RTX_3090),
    driver="580.82.07",
    ram=64 * GIB,
    free_disk=49 * GB,
    autodl=True,
    mirror="tsinghua mirror",
    jupyterlab="4.4.5",
    lab_widgets="5.0.15",
)
