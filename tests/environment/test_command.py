"""`python -m helpers.environment`: in a process of its own, also where nothing is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from fake_tools import fake_nvidia_smi

ROOT = Path(__file__).resolve().parents[2]


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
    fake_nvidia_smi(tmp_path, "echo '580.82.07, 24576, 24260, 8.6, GPU-1, NVIDIA GeForce RTX 3090'")
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
