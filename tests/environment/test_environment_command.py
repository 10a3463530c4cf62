"""`python -m helpers.environment`: in a process of its own, also where nothing is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_tools import CARD, fake_gpus

from helpers import EMBEDDED_MODEL, CourseError
from helpers.environment import size_of_folder

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
    assert re.search(r"This machine can(not)? run the real model", result.stdout)
    assert "none (no nvidia-smi)" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("variable", "option", "model"),
    [
        (None, None, "real"),
        ("", None, "real"),
        ("embedded", None, "embedded"),
        (" embedded ", None, "embedded"),
        ("real", None, "real"),
        ("qwen/Qwen1.5-MoE-A2.7B-Chat", None, "real"),
        ("Qwen1.5-MoE-A2.7B-Chat", None, "real"),
        (str(EMBEDDED_MODEL), None, "embedded"),
        ("embedded", "real", "real"),
        ("real", "embedded", "embedded"),
        (None, "QWEN/qwen1.5-moe-a2.7b-chat", "real"),
    ],
)
def test_command_chooses_the_model(variable, option, model, tmp_path):
    fake_gpus(tmp_path, [CARD])
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    if variable is not None:
        variables["COURSE_MODEL"] = variable
    arguments = []
    if option is not None:
        arguments = ["--model", option]
    text = run_check(*arguments, bare=True, **variables).stdout
    assert f"Checked for the {model} model, because" in text


def test_without_gpu_and_wish_the_embedded_model_is_checked():
    text = run_check(bare=True, COURSE_MODEL="").stdout
    assert "run the embedded model" in text
    assert "this machine has no GPU" in text


def test_a_gpu_that_could_not_be_read_means_the_real_model(tmp_path):
    fake_gpus(tmp_path, [], says="Failed to initialize NVML: Driver/library version mismatch", code=18)
    text = run_check(bare=True, PATH=f"{tmp_path}:/usr/bin:/bin").stdout
    assert "Checked for the real model, because this machine may have a GPU" in text
    assert "Driver/library version mismatch" in " ".join(text.split())


def test_a_model_folder_of_ones_own_needs_no_download(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(EMBEDDED_MODEL, folder)
    text = run_check(bare=True, COURSE_MODEL=str(folder)).stdout
    assert re.search(r"OK +model disk +not needed +your own model folder is there", text)
    assert "Checked for the mine model, because COURSE_MODEL asks for it" in text
    assert "30.6" not in text


@pytest.mark.parametrize("fault", ["no folder", "an empty folder", "a shard is missing"])
def test_a_model_folder_that_cannot_be_used_is_refused(fault, tmp_path):
    folder = tmp_path / "mine"
    if fault == "an empty folder":
        folder.mkdir()
    if fault == "a shard is missing":
        shutil.copytree(EMBEDDED_MODEL, folder)
        next(folder.glob("*.safetensors")).unlink()
    result = run_check(bare=True, COURSE_MODEL=str(folder))
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(r"(There is no|The model) folder .*mine.*\n", result.stderr)


def test_command_on_a_machine_with_nothing_installed():
    result = run_check(bare=True)
    assert result.returncode == 1 and result.stderr == ""
    assert re.search(r"fail +transformers +missing", result.stdout)


def test_command_refuses_another_model():
    result = run_check("--model", "huge")
    assert result.returncode == 1
    assert "huge" in result.stderr
    assert result.stderr.count("\n") == 1


def test_output_shows_no_place_of_this_machine(tmp_path):
    index = {
        "PIP_INDEX_URL": "https://secret.example.org/simple",
        "http_proxy": "http://secret.example.org:1",
    }
    text = run_check(bare=True, MODELSCOPE_CACHE=str(tmp_path / "not there yet"), **index).stdout
    assert "another index" in text and re.search(r"proxy +http_proxy", text)
    for place in (str(ROOT), str(Path.home()), str(tmp_path), sys.prefix, "secret", os.uname().nodename):
        assert place not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_experts": "8"}, 'num_experts is "8", not a whole number'),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1, less than 1"),
        ({"quantization_config": {"quant_method": "fp8"}}, "are quantized"),
        ({"compression_config": {"format": "pack-quantized"}}, "are quantized"),
    ],
    ids=str,
)
def test_a_folder_that_the_loader_refuses_is_refused(change, words, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(EMBEDDED_MODEL, folder)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**settings, **change}))
    with pytest.raises(CourseError, match=words):
        size_of_folder(folder)
