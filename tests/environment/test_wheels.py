"""Which torch and which flash-attn fit a machine: commands and addresses."""

from dataclasses import replace

import pytest
from machines import AUTODL, RTX_3090, check_lines, gpus

from helpers import GIB
from helpers.environment import Gpu, Machine, flash_attn_wheel


@pytest.mark.parametrize(
    ("driver", "capability", "index"),
    [("580.65.06", 8.6, "cu130"), ("570.124.06", 8.6, "cu126"), ("570.124.06", 12.0, "cu128")],
)
def test_torch_command_fits_the_driver(driver, capability, index):
    described = gpus("a card", 48, capability, driver=driver, torch_cuda="")
    assert check_lines(described)["torch"].repair.endswith(f"/whl/{index}")


def test_torch_command_without_gpu_names_no_index():
    assert check_lines(Machine(), "embedded")["torch"].repair.endswith('"torch>=2.9,<2.14"')


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
    assert "http" not in check_lines(replace(AUTODL, **changes))["flash-attn"].repair


def test_installed_flash_attn_needs_no_hint():
    line = check_lines(replace(AUTODL, packages=AUTODL.packages | {"flash-attn": "2.8.3"}))["flash-attn"]
    assert (line.found, line.repair) == ("2.8.3", "")
