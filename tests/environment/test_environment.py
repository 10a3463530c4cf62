"""The environment check: described machines and their verdicts, the command, hostile machines, wheels."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from helpers.environment import (
    check,
    checks,
    flash_attn_wheel,
    machine,
    print_versions,
    satisfies,
    show_environment,
)
from helpers.environment.machine import Gpu, Machine, read_gpus, read_machine, read_ram, requirements

ROOT = Path(__file__).resolve().parents[2]
GIB, GB = 2**30, 10**9
RTX_3090 = Gpu("NVIDIA GeForce RTX 3090", 24 * GIB, 8.6)
#: The versions of requirements.txt: of a range, its lower end.
PACKAGES = {name: re.search(r"[\d.]+", text)[0] for name, text in requirements().items()}

AUTODL = Machine(
    packages=PACKAGES | {"torch": "2.9.1"},
    torch_cuda="12.8",
    gpus=(RTX_3090, RTX_3090),
    driver="580.82.07",
    ram=64 * GIB,
    free_disk=49 * GB,
    autodl=True,
    data_disk=True,
    mirror="tsinghua mirror",
    jupyterlab="4.4.5",
    lab_widgets="5.0.15",
)
LAPTOP = Machine(
    packages=PACKAGES, ram=16 * GIB, free_disk=200 * GB, jupyterlab="4.6.6", lab_widgets="5.0.16"
)


def gpus(name, gib, capability, count=1, **more):
    return replace(AUTODL, gpus=(Gpu(name, int(gib * GIB), capability),) * count, **more)


def without(name, base=AUTODL):
    return {package: version for package, version in base.packages.items() if package != name}


# name -> (machine, model, every line that is not OK)
MACHINES = {
    "AutoDL, 2 x RTX 3090": (AUTODL, "real", {}),
    "the same, old driver, torch for CUDA 12": (replace(AUTODL, driver="535.104.05"), "real", {}),
    "the same, old driver, torch for CUDA 13": (
        replace(AUTODL, driver="570.124.06", torch_cuda="13.0"),
        "real",
        {"driver": "fail"},
    ),
    "a driver too old even for CUDA 12": (replace(AUTODL, driver="470.82.01"), "real", {"driver": "fail"}),
    "the image PyTorch 2.1, Python 3.10, CUDA 12.1": (
        replace(
            AUTODL,
            python="3.10.8",
            packages={"torch": "2.1.0+cu121", "ipykernel": "6.25.0", "ipywidgets": "8.1.1"},
            torch_cuda="12.1",
            cxx11_abi=False,
            jupyterlab="3.4.8",
            lab_widgets="",
        ),
        "real",
        {
            "Python": "fail",
            "torch": "fail",
            **dict.fromkeys(["transformers", "accelerate", "modelscope", "modelscope-hub"], "fail"),
            "ipywidgets": "fail",
            **dict.fromkeys(["matplotlib", "pandas"], "fail"),
            **dict.fromkeys(["ipykernel", "pytest", "nbval"], "warning"),
            "JupyterLab": "warning",
        },
    ),
    "one card of 24 GB": (replace(AUTODL, gpus=(RTX_3090,)), "real", {"GPU": "fail"}),
    "one card of 24 GB, embedded model": (replace(AUTODL, gpus=(RTX_3090,)), "embedded", {}),
    "a laptop, embedded model": (LAPTOP, "embedded", {}),
    "a laptop, real model": (LAPTOP, "real", {"GPU": "fail"}),
    "2 x V100 16 GB": (
        gpus("Tesla V100-SXM2-16GB", 16, 7.0, 2, torch_cuda="12.6"),
        "real",
        {"bf16": "fail"},
    ),
    "2 x V100 16 GB, embedded model": (
        gpus("Tesla V100-SXM2-16GB", 16, 7.0, 2),
        "embedded",
        {"bf16": "warning"},
    ),
    "one V100 16 GB": (
        gpus("Tesla V100-SXM2-16GB", 16, 7.0),
        "real",
        {"GPU": "fail", "bf16": "fail"},
    ),
    "a full data disk": (replace(AUTODL, free_disk=20 * GB), "real", {"model disk": "fail"}),
    "a full disk with the model on it": (replace(AUTODL, free_disk=1 * GB, downloaded=True), "real", {}),
    "system disk only, 20 GB free": (
        replace(AUTODL, data_disk=False, free_disk=20 * GB),
        "real",
        {"model disk": "fail"},
    ),
    "system disk, enlarged": (
        replace(AUTODL, data_disk=False, free_disk=60 * GB),
        "real",
        {"model disk": "warning"},
    ),
    "GPUs with a CPU build of torch": (replace(AUTODL, torch_cuda=""), "real", {"torch": "fail"}),
    "GPUs with a torch that cannot be imported": (
        replace(AUTODL, torch_cuda=None),
        "real",
        {"torch": "fail"},
    ),
    "torch too new": (
        replace(AUTODL, packages=PACKAGES | {"torch": "2.14.0"}),
        "real",
        {"torch": "fail"},
    ),
    "A100 80 GB": (gpus("NVIDIA A100-SXM4-80GB", 80, 8.0), "real", {}),
    "H20 96 GB": (gpus("NVIDIA H20", 95.6, 9.0), "real", {}),
    "2 x RTX 4090": (gpus("NVIDIA GeForce RTX 4090", 23.99, 8.9, 2), "real", {}),
    "RTX 5090 32 GB": (gpus("NVIDIA GeForce RTX 5090", 31.84, 12.0), "real", {}),
    "RTX 5090 with torch for CUDA 12.6": (
        gpus("NVIDIA GeForce RTX 5090", 31.84, 12.0, torch_cuda="12.6"),
        "real",
        {"torch": "fail"},
    ),
    "MacBook": (replace(LAPTOP, platform="darwin_arm64", ram=0), "embedded", {}),
    "Windows laptop": (replace(LAPTOP, platform="win32_amd64", ram=0), "embedded", {}),
    "GH200, aarch64": (gpus("NVIDIA GH200 480GB", 95.6, 9.0, platform="linux_aarch64"), "real", {}),
    "acceleration is on": (replace(AUTODL, proxy=True), "real", {"http_proxy": "warning"}),
    "a proxy elsewhere": (replace(LAPTOP, proxy=True), "embedded", {}),
    "no mirror": (replace(AUTODL, mirror=""), "real", {"pip index": "warning"}),
    "no widgets in the server": (replace(AUTODL, lab_widgets=""), "real", {"JupyterLab": "warning"}),
    "JupyterLab 3": (replace(AUTODL, jupyterlab="3.6.8"), "real", {"JupyterLab": "warning"}),
    "no JupyterLab": (replace(AUTODL, jupyterlab="", lab_widgets=""), "real", {"JupyterLab": "warning"}),
    "ipykernel 7.0": (
        replace(AUTODL, packages=PACKAGES | {"torch": "2.9.1", "ipykernel": "7.0.1"}),
        "real",
        {"ipykernel": "warning"},
    ),
    "no ipywidgets in the kernel": (
        replace(AUTODL, packages=without("ipywidgets")),
        "real",
        {"ipywidgets": "fail"},
    ),
    "little RAM": (replace(AUTODL, ram=4 * GIB), "real", {"RAM": "warning"}),
    "nothing installed, no GPU": (
        Machine(free_disk=50 * GB),
        "embedded",
        {name: "fail" for name in requirements() if name != "jupyterlab"}
        | dict.fromkeys(["pytest", "nbval", "JupyterLab"], "warning"),
    ),
    "no-GPU start on AutoDL": (
        replace(AUTODL, gpus=(), driver="", gpu_problem="nvidia-smi lists none", ram=2 * GIB),
        "embedded",
        {},
    ),
}


def found(described, model="real"):
    return {line.name: line for line in check(described, model)}


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
    ("driver", "capability", "index"),
    [("580.65.06", 8.6, "cu130"), ("570.124.06", 8.6, "cu126"), ("570.124.06", 12.0, "cu128")],
)
def test_torch_command_fits_the_driver(driver, capability, index):
    described = gpus("a card", 48, capability, driver=driver, torch_cuda="")
    assert found(described)["torch"].repair.endswith(f"/whl/{index}")


def test_torch_command_without_gpu_names_no_index():
    assert found(Machine(), "embedded")["torch"].repair.endswith('"torch>=2.9,<2.14"')


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


# Names as they stand in public install instructions and in doc/packages.md of the community repository.
@pytest.mark.parametrize(
    ("python", "torch", "cuda", "name"),
    [
        ("3.12.3", "2.9.1", "12.8", "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        ("3.12.3", "2.9.0", "13.0", "flash_attn-2.8.3+cu13torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"),
        ("3.11.9", "2.9.0", "12.8", "flash_attn-2.8.3+cu128torch2.9-cp311-cp311-linux_x86_64.whl"),
        ("3.12.3", "2.10.0+cu128", "12.8", "flash_attn-2.8.3+cu128torch2.10-cp312-cp312-linux_x86_64.whl"),
        ("3.13.1", "2.11.0", "13.0", "flash_attn-2.8.3+cu130torch2.11-cp313-cp313-linux_x86_64.whl"),
        ("3.12.3", "2.12.1", "12.6", "flash_attn-2.8.3+cu126torch2.12-cp312-cp312-linux_x86_64.whl"),
        ("3.11.9", "2.13.0", "13.0", "flash_attn-2.8.3+cu130torch2.13-cp311-cp311-linux_x86_64.whl"),
    ],
)
def test_wheel_names(python, torch, cuda, name):
    described = replace(AUTODL, python=python, packages={"torch": torch}, torch_cuda=cuda)
    address, reason = flash_attn_wheel(described)
    assert address.rsplit("/", 1)[1].replace("%2B", "+") == name and not reason
    official = "cxx11abi" in name
    assert ("Dao-AILab/flash-attention/releases/download/v2.8.3/" in address) == official


@pytest.mark.parametrize(
    "changes",
    [
        {"packages": {"torch": "2.8.0"}},
        {"packages": {"torch": "2.1.0"}, "python": "3.10.8"},
        {"packages": {"torch": "2.12.0"}, "torch_cuda": "12.8"},
        {"packages": {"torch": "2.9.1"}, "cxx11_abi": False},
        {"packages": {"torch": "2.9.1"}, "torch_cuda": "11.8", "python": "3.11.9"},
        {"python": "3.14.0"},
        {"platform": "linux_aarch64"},
        {"platform": "win32_amd64"},
        {"gpus": ()},
        {"torch_cuda": ""},
        {"torch_cuda": None},
        {"gpus": (Gpu("Tesla V100", 16 * GIB, 7.0),)},
        {"gpus": (RTX_3090, Gpu("Tesla T4", 16 * GIB, 7.5))},
    ],
)
def test_no_wheel_is_claimed(changes):
    address, reason = flash_attn_wheel(replace(AUTODL, **changes))
    assert address == "" and reason
    assert "http" not in found(replace(AUTODL, **changes))["flash-attn"].repair


def test_installed_flash_attn_needs_no_hint():
    line = found(replace(AUTODL, packages=AUTODL.packages | {"flash-attn": "2.8.3"}))["flash-attn"]
    assert (line.found, line.repair) == ("2.8.3", "")


@pytest.mark.parametrize("specifier", ["==5.23.0", ">=2.9,<2.14", ">=6.29,!=7.0.*", ">=4.2,<5", "<2.12"])
@pytest.mark.parametrize(
    "version",
    ["5.23.0", "5.23.1", "2.9", "2.8.9", "2.9.0", "2.13.1", "2.14.0", "7.0.1", "7.1.0", "6.29.5", "5.0"],
)
def test_satisfies_agrees_with_packaging(version, specifier):
    assert satisfies(version, specifier) == SpecifierSet(specifier).contains(version)


def test_satisfies_local_and_missing_versions():
    assert satisfies("2.13.0+cpu", ">=2.9,<2.14") and not satisfies("", ">=2.9")


def test_print_versions(capsys):
    print_versions("pytest", "no-such-package")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Python +\d+\.\d+\.\d+", lines[0])
    assert re.fullmatch(r"pytest +\d+\.\d+\.\d+", lines[1])
    assert lines[2] == "no-such-package not installed"
    assert len({re.match(r"\S+ +", line).end() for line in lines}) == 1


@pytest.mark.parametrize(
    "path", ["helpers/environment/checks.py", "helpers/environment/machine.py", "helpers/__init__.py"]
)
def test_python_310_can_read_it_and_nothing_but_the_standard_library_is_imported(path):
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 10))
    top = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names) | {"helpers"}


# --- the real machine, and hostile ones -------------------------------------------------------------------


def fake_nvidia_smi(folder, script):
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run_check(*arguments, bare=False, **variables):
    """Run the check as a command; `bare`: without site-packages, as on a machine with nothing installed."""
    environ = {"PATH": "", "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)} | variables
    command = ["-m", "helpers.environment", *arguments]
    if bare:
        code = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
        code += "runpy.run_module('helpers.environment', run_name='__main__')"
        command = ["-I", "-S", "-c", code, str(ROOT), *arguments]
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, env=environ, cwd=ROOT
    )


def test_command_without_gpu():
    result = run_check("--model", "real")
    assert result.returncode == 1 and "This machine cannot run the real model" in result.stdout
    assert "none (no nvidia-smi)" in result.stdout and result.stderr == ""


def test_command_chooses_the_model(tmp_path):
    fake_nvidia_smi(tmp_path, "echo '580.82.07, 24576, 8.6, NVIDIA GeForce RTX 3090'")
    path = f"{tmp_path}:/usr/bin:/bin"
    assert "run the real model" in run_check(bare=True, PATH=path).stdout
    assert "run the embedded model" in run_check(bare=True, COURSE_MODEL="").stdout
    assert "run the embedded model" in run_check(bare=True, PATH=path, COURSE_MODEL="embedded").stdout
    assert "run the real model" in run_check(bare=True, COURSE_MODEL=str(tmp_path)).stdout
    assert "run the real model" in run_check("--model", "real", bare=True, COURSE_MODEL="embedded").stdout


def test_command_on_a_machine_with_nothing_installed():
    result = run_check(bare=True)
    assert result.returncode == 1 and result.stderr == ""
    assert re.search(r"fail +transformers +missing", result.stdout)


def test_command_refuses_another_model():
    result = run_check("--model", "huge")
    assert result.returncode == 2 and "Traceback" not in result.stderr


def test_output_shows_no_place_of_this_machine(tmp_path):
    index = {
        "PIP_INDEX_URL": "https://secret.example.org/simple",
        "http_proxy": "http://secret.example.org:1",
    }
    text = run_check(bare=True, MODELSCOPE_CACHE=str(tmp_path / "not there yet"), **index).stdout
    assert "another index" in text and re.search(r"http_proxy +on", text)
    for place in (str(ROOT), str(Path.home()), str(tmp_path), sys.prefix, "secret", os.uname().nodename):
        assert place not in text


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("[global]\nindex-url = https://pypi.tuna.tsinghua.edu.cn/simple\n", "tsinghua mirror"),
        ("[global]\nindex-url = https://example.org/simple\n", "another index"),
        ("[global]\nextra-index-url = https://pypi.tuna.tsinghua.edu.cn/simple\n", ""),
        ("no settings at all", ""),
    ],
)
def test_mirror_is_read_from_the_settings_of_pip(settings, name, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    read = machine._read
    monkeypatch.setattr(machine, "_read", lambda *parts: "" if parts[0] == "/etc" else read(*parts))
    (tmp_path / "pip.conf").write_text(settings)
    assert read_machine().mirror == name


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
    assert read_gpus(seconds=0.5) == {"gpu_problem": problem}


def test_nvidia_smi_that_works(tmp_path, monkeypatch):
    rows = "580.82.07, 24576, 8.6, NVIDIA GeForce RTX 3090\\n" * 2
    fake_nvidia_smi(tmp_path, f"printf '{rows}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_gpus() == {"gpus": (RTX_3090, RTX_3090), "driver": "580.82.07"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 0),
        ({"proc/meminfo": "MemTotal:       65536 kB\nMemFree: 1 kB\n"}, 64 * 2**20),
        ({"proc/meminfo": "MemTotal: 65536 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 64 * 2**20),
        ({"proc/meminfo": "MemTotal: 65536 kB\n", "sys/fs/cgroup/memory.max": "1048576\n"}, 2**20),
        (
            {
                "proc/meminfo": "MemTotal: 65536 kB\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2097152\n",
            },
            2**21,
        ),
    ],
)
def test_ram_of_a_container(files, limit, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_ram(str(tmp_path)) == limit


def test_data_disk(tmp_path, monkeypatch):
    disk = tmp_path / "autodl-tmp"
    disk.mkdir()
    monkeypatch.delenv("MODELSCOPE_CACHE", raising=False)
    monkeypatch.setattr(machine, "DATA_DISK", str(disk))
    assert read_machine().autodl and read_machine().data_disk
    monkeypatch.setenv("MODELSCOPE_CACHE", str(disk / "models"))
    assert read_machine().data_disk
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "elsewhere"))
    assert read_machine().autodl and not read_machine().data_disk


def test_server_is_found_by_its_process(tmp_path, monkeypatch):
    manager = tmp_path / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
    manager.mkdir(parents=True)
    (manager / "package.json").write_text('{"version": "5.0.9"}')
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.symlink_to(sys.executable)
    server = subprocess.Popen([python, "-S", "-c", "print('up', flush=True); input()"], stdin=-1, stdout=-1)
    try:
        server.stdout.readline()
        monkeypatch.setenv("JPY_PARENT_PID", str(server.pid))
        described = read_machine()
    finally:
        server.communicate(b"\n", timeout=10)
    assert (described.jupyterlab, described.lab_widgets) == ("", "5.0.9")


def test_a_torch_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    described = read_machine()
    assert described.torch_cuda is None
    assert "its import fails" in found(described, "embedded")["torch"].found
