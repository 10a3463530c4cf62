"""The ways in which a processor can compute the same sum, as settings of PyTorch.

PyTorch chooses its kernels by what the processor offers: AVX2, AVX-512, AMX. They round bf16 numbers at
different places, so that a third digit, a count at a threshold or a close decision can differ. Two variables,
read when a process starts, let a newer processor compute as an older one does:

- `ATEN_CPU_CAPABILITY` for PyTorch's own kernels,
- `ONEDNN_MAX_CPU_ISA` for the matrix products of oneDNN, the library inside PyTorch.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

# Value of the variable -> the flag of /proc/cpuinfo that it needs, from the oldest on. "default" needs none.
ATEN = {"default": "", "avx2": "avx2", "avx512": "avx512bw"}
ONEDNN = {
    "AVX2": "avx2",
    "AVX512_CORE": "avx512bw",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE_AMX": "amx_bf16",
}

THREADS = (1, 2)


@dataclass(frozen=True)
class CpuSetting:
    """One way to compute: a name for the table, the variables that choose it, the number of threads."""

    name: str
    variables: dict[str, str]
    threads: int = 1
    missing: str = ""  # what this processor lacks for it; "" if it can be tried


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor offers, as Linux names it; empty where that cannot be read, as on macOS."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    for line in lines:
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


def missing_for(variables: dict[str, str], flags: set[str]) -> str:
    """Why these variables cannot be tried on a processor with these flags; "" if they can."""
    needed = {
        "ATEN_CPU_CAPABILITY": ATEN.get(variables.get("ATEN_CPU_CAPABILITY", "default")),
        "ONEDNN_MAX_CPU_ISA": ONEDNN.get(variables.get("ONEDNN_MAX_CPU_ISA", ""), ""),
    }
    for variable, flag in needed.items():
        if flag and flag not in flags:
            return f"{variable}={variables[variable]} needs {flag}, which this processor does not have"
    return ""


def make_setting(name: str, variables: dict[str, str], threads: int, flags: set[str]) -> CpuSetting:
    """A setting that knows whether this processor can compute so."""
    if threads > 1:
        name += f", {threads} threads"
    return CpuSetting(name, variables, threads, missing_for(variables, flags))


def short_settings(flags: set[str], threads: int = 1) -> list[CpuSetting]:
    """The two ends: as this processor computes by itself, and as the oldest that the course supports does."""
    oldest = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    return [make_setting("own", {}, threads, flags), make_setting("oldest", oldest, threads, flags)]


def aten_variables(value: str, flags: set[str]) -> dict[str, str]:
    """PyTorch's own kernels as `value` says. On a processor with AMX, oneDNN must be held back with them.

    PyTorch 2.13 would hand its older kernels matrices packed for AMX, and stop with "pack_vnni2 is only
    supported when avx512 is supported". No processor has AMX without AVX-512, so no learner meets that.
    """
    variables = {"ATEN_CPU_CAPABILITY": value}
    if value != "avx512" and "amx_bf16" in flags:
        variables["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
    return variables


def all_settings(flags: set[str]) -> list[CpuSetting]:
    """The short ones and every single setting of each variable, with one and with two threads."""
    settings = []
    for threads in THREADS:
        settings += short_settings(flags, threads)
        for value in ATEN:
            settings.append(make_setting(f"ATen {value}", aten_variables(value, flags), threads, flags))
        for value in ONEDNN:
            settings.append(make_setting(f"oneDNN {value}", {"ONEDNN_MAX_CPU_ISA": value}, threads, flags))
    return settings


def describe_processor() -> str:
    """One line on the kernels that PyTorch takes here when nothing is set."""
    import torch  # imported late: it takes seconds, and --help needs no torch

    return f"{platform.machine()}, PyTorch {torch.__version__}: {torch.backends.cpu.get_cpu_capability()}"
