"""Reading a machine: RAM, disks, pip's index, JupyterLab's server, a broken torch."""

import subprocess
import sys
from pathlib import Path

import pytest
from fake_tools import write_files
from machines import found

from helpers import settings as course_settings
from helpers.environment import read_machine, read_ram
from helpers.environment.probes import read_mirror


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
    (tmp_path / "pip.conf").write_text(settings)
    assert read_mirror(root=str(tmp_path / "root")) == name


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
    write_files(tmp_path, files)
    assert read_ram(str(tmp_path)) == limit


def test_data_disk(tmp_path, monkeypatch):
    disk = tmp_path / "autodl-tmp"
    disk.mkdir()
    monkeypatch.delenv("MODELSCOPE_CACHE", raising=False)
    monkeypatch.setattr(course_settings, "DATA_DISK", disk)
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
