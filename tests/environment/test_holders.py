"""Who holds GPU memory: named by nvidia-smi, or found in /proc."""

import os

import pytest
from fake_tools import CARD, fake_gpus, fake_nvidia_smi, write_files

from helpers.environment import gpu_holders, read_holders, read_machine, read_memory

KERNEL = "/usr/bin/python3\0-m\0ipykernel_launcher\0-f\0/root/kernel-1.json\0"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The root of a file system of its own, and the only folder with programs apart from the shell's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "proc").mkdir()
    return tmp_path


def write_process(root, pid, command, environ="", opens="/dev/nvidia0"):
    """A process of a fake /proc that has a file open."""
    write_files(root, {f"proc/{pid}/cmdline": command, f"proc/{pid}/environ": environ})
    (root / f"proc/{pid}/fd").mkdir()
    (root / f"proc/{pid}/fd/7").symlink_to(opens)


def test_what_nvidia_smi_names(root):
    fake_gpus(root, [], apps=f"4711, python3, 13402 MiB\n{os.getpid()}, python3, 500 MiB")
    text = gpu_holders(root=str(root))
    assert "4711 (python3, 13402 MiB)" in text
    assert f"{os.getpid()} (this one, 500 MiB)" in text


def test_the_kernel_of_a_notebook_is_named_and_is_to_be_shut_down(root):
    write_process(root, 4711, KERNEL, "HOME=/root\0JPY_SESSION_NAME=/root/course/02_vram.ipynb\0")
    fake_gpus(root, [], apps="4711, /usr/bin/python3, 17408 MiB")
    text = gpu_holders(root=str(root))
    assert "process 4711 (the kernel of 02_vram.ipynb, 17408 MiB)" in text
    assert "Shut down that kernel" in text
    assert "/root" not in text


@pytest.mark.parametrize("apps", ["", "815, [Not Found], 17408 MiB"])
def test_a_container_in_which_nvidia_smi_names_nobody(apps, root):
    fake_gpus(root, [], apps=apps)
    write_process(root, 4711, KERNEL)
    write_process(root, 99, "/usr/bin/editor\0notes\0", opens="/dev/null")
    write_process(root, 100, "/opt/monitor\0", opens="/dev/nvidiactl")
    assert [holder.pid for holder in read_holders(root=str(root))] == [4711]
    assert "process 4711 (the kernel of another notebook)" in gpu_holders(root=str(root))


def test_a_number_of_the_host_is_not_taken_for_a_process_in_here(root):
    write_process(root, 4711, "/usr/bin/editor\0", opens="/dev/null")
    fake_gpus(root, [], apps="4711, /opt/conda/bin/python, 17408 MiB")
    assert "process 4711 (python, 17408 MiB)" in gpu_holders(root=str(root))


@pytest.mark.parametrize("script", ["exit 0", "echo 'Failed to initialize NVML'; exit 18", "exec sleep 20"])
def test_nobody_to_be_seen(script, root):
    fake_nvidia_smi(root, script)
    text = gpu_holders(seconds=0.5, root=str(root))
    assert "does not show" in text
    assert "Shut down the kernels of other notebooks" in text


def test_holders_are_asked_for_only_where_much_is_held(root):
    fake_gpus(root, [CARD | {"memory.free": "7000"}], apps="4711, python3, 17260 MiB")
    assert "4711 (python3, 17260 MiB)" in read_memory().holders
    assert "4711" in read_machine().gpu_holders
    fake_gpus(root, [CARD], apps="4711, /usr/lib/xorg/Xorg, 20 MiB")
    assert read_memory().holders == ""
    assert read_machine().gpu_holders == ""
