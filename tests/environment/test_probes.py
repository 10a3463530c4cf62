"""Reading a machine: RAM, disks, pip's index, JupyterLab's server, a broken torch."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tools import write_files
from machines import AUTODL, check_lines

from helpers import GB, settings
from helpers.environment import free_ram, probes, read_machine, read_ram
from helpers.environment.probes import kind_of_disk, read_mirror


@pytest.mark.parametrize(
    ("pip_conf", "name"),
    [
        ("[global]\nindex-url = https://pypi.tuna.tsinghua.edu.cn/simple\n", "tsinghua mirror"),
        ("[global]\nindex-url = https://example.org/simple\n", "another index"),
        ("[global]\nextra-index-url = https://pypi.tuna.tsinghua.edu.cn/simple\n", ""),
        ("no settings at all", ""),
    ],
)
def test_mirror_is_read_from_the_settings_of_pip(pip_conf, name, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "pip.conf").write_text(pip_conf)
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


#: On a container of cgroup version 2 and 1: 8 MiB of 16 MiB in use, 2 MiB of it files that can go.
CGROUP_2 = {
    "sys/fs/cgroup/memory.max": "16777216\n",
    "sys/fs/cgroup/memory.current": "8388608\n",
    "sys/fs/cgroup/memory.stat": "anon 6291456\ninactive_file 1048576\nactive_file 1048576\n",
}
CGROUP_1 = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "16777216\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "8388608\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1048576\nactive_file 1048576\ntotal_inactive_file 9\n",
}
NO_LIMIT = {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "8388608\n"}
MEMINFO = {"proc/meminfo": "MemTotal: 65536 kB\nMemFree: 1 kB\nMemAvailable: 32768 kB\n"}


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, 0),
        (MEMINFO, 32),
        (MEMINFO | NO_LIMIT, 32),
        (MEMINFO | CGROUP_2, 10),
        (MEMINFO | CGROUP_1, 10),
        (CGROUP_2, 10),
        ({"proc/meminfo": "MemAvailable: 4096 kB\n"} | CGROUP_2, 4),
        (MEMINFO | CGROUP_2 | {"sys/fs/cgroup/memory.current": "99999999\n"}, 0),
        (MEMINFO | CGROUP_2 | {"sys/fs/cgroup/memory.max": "nonsense"}, 32),
    ],
)
def test_free_ram_of_a_container(files, mib, tmp_path):
    write_files(tmp_path, files)
    assert free_ram(str(tmp_path)) == mib * 2**20


def test_ram_without_proc_is_asked_elsewhere(monkeypatch):
    monkeypatch.setattr(probes, "read_text", lambda *parts: "")
    assert read_ram() > 2**30
    assert 0 < free_ram() <= read_ram()


@pytest.fixture
def data_disk(tmp_path, monkeypatch):
    """A folder in the place of AutoDL's data disk."""
    disk = tmp_path / "autodl-tmp"
    disk.mkdir()
    monkeypatch.delenv("MODELSCOPE_CACHE", raising=False)
    monkeypatch.setattr(settings, "DATA_DISK", disk)
    return disk


def test_the_four_disks(data_disk, tmp_path, monkeypatch):
    storage = tmp_path / "autodl-fs"
    monkeypatch.setattr(probes, "FILE_STORAGE", storage)
    assert kind_of_disk(data_disk / "models") == "data disk"
    assert kind_of_disk(data_disk) == "data disk"
    assert kind_of_disk(storage / "models") == "file storage"
    assert kind_of_disk(Path("/no such folder/models")) == "system disk"
    assert kind_of_disk(Path("/dev/shm/models")) == "other disk"
    # Beside the data disk, not on it.
    assert kind_of_disk(tmp_path / "autodl-tmp-2") in ("system disk", "other disk")


def test_where_the_model_goes(data_disk, tmp_path, monkeypatch):
    assert read_machine().autodl
    assert read_machine().disk == "data disk"
    monkeypatch.setenv("MODELSCOPE_CACHE", str(data_disk / "models"))
    assert read_machine().disk == "data disk"
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "elsewhere"))
    assert read_machine().disk != "data disk"


@pytest.mark.parametrize(
    ("disk", "free_gb", "verdict", "advice"),
    [
        ("data disk", 49, "OK", ""),
        ("data disk", 20, "fail", "enlarge"),
        ("system disk", 20, "fail", "use the data disk"),
        ("system disk", 60, "warning", "use the data disk"),
        ("file storage", 200, "warning", "slow"),
        ("file storage", 20, "fail", "use the data disk"),
        ("other disk", 200, "OK", ""),
        ("other disk", 20, "fail", "enlarge"),
    ],
)
def test_verdicts_on_autodls_disks(disk, free_gb, verdict, advice):
    line = check_lines(replace(AUTODL, disk=disk, free_disk=free_gb * GB), "real")["model disk"]
    assert line.verdict == verdict
    assert advice in line.repair
    assert disk in line.found


@pytest.mark.parametrize("name", probes.PROXIES)
def test_a_proxy_under_any_name_is_seen_and_unset(name, monkeypatch):
    for other in probes.PROXIES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert probes.read_proxies() == (name,)
    line = check_lines(replace(AUTODL, proxies=(name,)), "real")["proxy"]
    assert line.repair == f"unset {name}"
    monkeypatch.setenv(name, "")
    assert probes.read_proxies() == ()


# --- JupyterLab -------------------------------------------------------------------------------------------

LAB = "share/jupyter/lab/static/package.json"
MANAGER = "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json"


def write_server(root, pid, lab="4.4.5", widgets="5.0.15"):
    """A /proc with a JupyterLab server of that number, in an environment below `root`/env."""
    python = root / "env/bin/python"
    write_files(
        root,
        {
            f"proc/{pid}/cmdline": f"{python}\0{root}/env/bin/jupyter-lab\0--port=6006\0",
            f"proc/{pid}/status": "Name:\tjupyter-lab\nPPid:\t1\n",
            f"env/{LAB}": f'{{"version": "{lab}"}}',
            f"env/{MANAGER}": f'{{"version": "{widgets}"}}',
        },
    )


def test_a_kernel_finds_its_server(tmp_path, monkeypatch):
    write_server(tmp_path, 4711)
    monkeypatch.setenv("JPY_PARENT_PID", "4711")
    assert probes.read_server(str(tmp_path)) == ("4.4.5", "5.0.15", True)


def test_a_terminal_of_jupyterlab_finds_its_server_among_its_ancestors(tmp_path, monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    write_server(tmp_path, 50)
    files = {
        f"proc/{os.getppid()}/cmdline": "/bin/bash\0",
        f"proc/{os.getppid()}/status": "Name:\tbash\nPPid:\t50\n",
    }
    write_files(tmp_path, files)
    assert probes.read_server(str(tmp_path)) == ("4.4.5", "5.0.15", True)


def test_another_terminal_cannot_see_the_server(tmp_path, monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    server = probes.read_server(str(tmp_path))
    assert not server.seen
    line = check_lines(replace(AUTODL, server_seen=False, jupyterlab="", lab_widgets=""), "real")[
        "JupyterLab"
    ]
    assert line.verdict == "OK"
    assert "cannot be seen" in line.found
    assert "in a notebook" in line.repair


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "lab"}', "null"])
def test_a_damaged_package_json_is_not_found(text, tmp_path, monkeypatch):
    write_server(tmp_path, 4711)
    (tmp_path / "env" / LAB).write_text(text)
    monkeypatch.setenv("JPY_PARENT_PID", "4711")
    assert probes.read_server(str(tmp_path)) == ("", "5.0.15", True)


@pytest.mark.parametrize(
    ("widgets", "verdict"),
    [("5.0.15", "OK"), ("5.0.9", "OK"), ("3.1.11", "warning"), ("6.0.0", "warning"), ("", "warning")],
)
def test_the_widget_manager_must_fit_ipywidgets_8(widgets, verdict):
    assert check_lines(replace(AUTODL, lab_widgets=widgets), "real")["JupyterLab"].verdict == verdict


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


# --- packages that are there and do not work ------------------------------------------------------------


@pytest.fixture
def broken_package(tmp_path, monkeypatch):
    """Install a package whose import fails, as one that was built for another torch."""

    def install(module, distribution):
        (tmp_path / f"{module}.py").write_text("raise ImportError('undefined symbol: _ZNK3c106SymInt')")
        folder = tmp_path / f"{module}-2.8.3.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.8.3\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def test_a_flash_attn_that_cannot_be_imported(broken_package):
    broken_package("flash_attn", "flash-attn")
    machine = read_machine()
    assert machine.packages["flash-attn"] == "2.8.3"
    line = check_lines(machine, "embedded")["flash-attn"]
    assert line.verdict == "warning"
    assert "its import fails" in line.found
    assert "pip uninstall flash-attn" in line.repair


def test_the_wheel_that_fits_is_named_for_a_broken_flash_attn():
    packages = AUTODL.packages | {"flash-attn": "2.4.2"}
    line = check_lines(replace(AUTODL, packages=packages, flash_attn_works=False), "real")["flash-attn"]
    assert line.verdict == "warning"
    assert "flash_attn-2.8.3" in line.repair


def test_a_torch_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    described = read_machine()
    assert described.torch_cuda is None
    assert "its import fails" in check_lines(described, "embedded")["torch"].found
