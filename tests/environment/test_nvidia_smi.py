"""nvidia-smi that works, fails, hangs: fake programs, no GPU."""

from dataclasses import replace

import pytest
from fake_tools import CARD, fake_gpus, fake_nvidia_smi
from machines import AUTODL, check_lines

from helpers import GIB
from helpers.environment import read_gpus, read_machine

MIB = 2**20
OTHER = {"uuid": "GPU-22222222-bbbb"}
OLD_CARD = {
    "memory.total": "2048",
    "memory.free": "1500",
    "compute_cap": "6.1",
    "uuid": "GPU-33333333-cccc",
    "name": "NVIDIA GeForce GT 1030",
}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The only folder on the PATH, apart from the shell's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    return tmp_path


def test_nvidia_smi_that_works(programs):
    fake_gpus(programs, [CARD, CARD | OTHER])
    report = read_gpus()
    assert (report.driver, report.problem, report.remedy) == ("580.82.07", "", "")
    assert [gpu.uuid for gpu in report.gpus] == [CARD["uuid"], OTHER["uuid"]]
    assert report.gpus[0].memory == 24 * GIB
    assert report.gpus[0].free == 24260 * MIB
    assert report.gpus[0].capability == 8.6


# What it says, and a word of the next step.
FAILURES = [
    ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95", "restart"),
    ("Failed to initialize NVML: Unknown Error", "run nvidia-smi"),
    ('Field "compute_cap" is not a valid field to query.', "525.60.13"),
    ('Field "mig.mode.current" is not a valid field to query.', "525.60.13"),
    (
        "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system",
        "dropped out",
    ),
    ("Unable to determine the device handle for GPU 0000:01:00.0: Unknown Error", "does not answer"),
    ("GPU 0000:5E:00.0 has fallen off the bus", "dropped out"),
    (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure it runs.",
        "not running",
    ),
    ("Failed to initialize NVML: Driver Not Loaded", "not running"),
    ("Failed to initialize NVML: Insufficient Permissions", "may not use"),
    ("Failed to initialize NVML: GPU access blocked by the operating system", "blocks"),
    ("Segmentation fault (core dumped)", "run nvidia-smi"),
    ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", "start with GPUs"),
    ("Unable to determine the device handle for GPU0: Unknown Error\nNo devices were found", "card"),
]


@pytest.mark.parametrize(("says", "next_step"), FAILURES)
def test_a_failure_is_told_in_its_own_words_with_the_next_step(says, next_step, programs):
    fake_gpus(programs, [], says=says, code=255)
    report = read_gpus()
    assert report.gpus == ()
    assert says.splitlines()[0] in report.problem
    assert next_step in report.remedy


@pytest.mark.parametrize(("says", "next_step"), FAILURES)
def test_the_check_does_not_take_a_failure_for_no_gpu(says, next_step, programs, monkeypatch):
    fake_gpus(programs, [], says=says, code=255)
    machine = read_machine()
    for model in ("real", "embedded"):
        lines = check_lines(machine, model)
        assert lines["nvidia-smi"].verdict == "warning"
        assert says.splitlines()[0] in lines["nvidia-smi"].repair
        assert next_step in lines["nvidia-smi"].repair
        assert lines["GPU"].found == "could not be read"
        assert lines["GPU"].verdict != "OK"


@pytest.mark.parametrize("answer", ["echo 'No devices were found'; exit 6", "exit 0"])
def test_no_gpu_is_none(answer, programs):
    fake_nvidia_smi(programs, answer)
    report = read_gpus()
    assert report.problem == "nvidia-smi lists none"
    assert report.remedy == ""


@pytest.mark.parametrize(("answer", "says"), [("exit 3", "exit status is 3"), ("kill -11 $$", "signal 11")])
def test_a_failure_without_a_word_is_not_none(answer, says, programs):
    fake_nvidia_smi(programs, answer)
    report = read_gpus()
    assert says in report.problem
    assert "restart" in report.remedy


def test_no_nvidia_smi(programs, monkeypatch):
    monkeypatch.setenv("PATH", str(programs))
    assert read_gpus(root=str(programs)).problem == "none (no nvidia-smi)"
    assert read_gpus(root=str(programs)).remedy == ""
    (programs / "proc/driver/nvidia").mkdir(parents=True)
    (programs / "proc/driver/nvidia/version").write_text("NVRM version: 580.82.07")
    assert "PATH" in read_gpus(root=str(programs)).remedy


def test_nvidia_smi_that_may_not_be_run(programs, monkeypatch):
    monkeypatch.setenv("PATH", str(programs))
    (programs / "nvidia-smi").write_text("no program at all")
    (programs / "nvidia-smi").chmod(0o755)
    report = read_gpus()
    assert "cannot be started" in report.problem
    assert report.remedy


def test_nvidia_smi_that_hangs(programs):
    fake_nvidia_smi(programs, "exec sleep 30")
    report = read_gpus(seconds=0.5)
    assert report.problem == "nvidia-smi gave no answer in 0.5 s"
    assert "hangs" in report.remedy


def test_nvidia_smi_that_cannot_be_killed_is_not_waited_for(programs, monkeypatch):
    """A child that goes on with the output open, as a process in the kernel would."""
    fake_nvidia_smi(programs, "(trap '' TERM; sleep 20) & wait")
    assert "no answer" in read_gpus(seconds=0.5).problem


@pytest.mark.parametrize("memory", ["[GPU is lost]", "[Unknown Error]", "[Reset Required]"])
def test_a_lost_card_beside_a_good_one(memory, programs):
    fake_gpus(programs, [CARD, CARD | OTHER | {"memory.total": memory, "memory.free": memory}])
    report = read_gpus()
    assert len(report.gpus) == 1
    assert memory in report.problem
    assert report.remedy
    machine = read_machine()
    assert check_lines(machine, "real")["nvidia-smi"].verdict == "warning"
    assert "1 x RTX 3090" in check_lines(machine, "real")["GPU"].found


@pytest.mark.parametrize("memory", ["[N/A]", "[Not Supported]"])
def test_memory_that_is_not_shown_is_not_no_memory(memory, programs):
    shared = {"memory.total": memory, "memory.free": memory, "compute_cap": "12.1", "name": "NVIDIA GB10"}
    fake_gpus(programs, [CARD | shared])
    report = read_gpus()
    assert report.gpus[0].name == "NVIDIA GB10"
    assert memory in report.problem
    assert "mem_get_info" in report.remedy
    line = check_lines(read_machine(), "real")["GPU"]
    assert line.verdict == "warning"
    assert "memory not shown" in line.found
    assert "could not be read" in line.repair


def test_a_warning_beside_good_cards_is_no_problem(programs):
    fake_gpus(programs, [CARD], says="WARNING: infoROM is corrupted at gpu 0000:5E:00.0")
    report = read_gpus()
    assert len(report.gpus) == 1
    assert report.problem == ""


# --- usable cards -----------------------------------------------------------------------------------------

GOOD = [CARD, CARD | OTHER]
FIRST = CARD["uuid"]
SECOND = OTHER["uuid"]
OLD = OLD_CARD["uuid"]


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        ("0,1", [FIRST, SECOND]),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 1 , 0 ", [SECOND, FIRST]),
        ("0,7,1", [FIRST]),
        ("7", []),
        ("0,-1,1", [FIRST]),
        ("0,0", []),
        ("x", []),
        ("1x", [SECOND]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-2222", [SECOND]),
        (f"{SECOND},{FIRST}", [SECOND, FIRST]),
        ("GPU-2222,GPU-9999", [SECOND]),
        ("GPU-", []),
        ("MIG-1111", []),
    ],
)
def test_visible_devices(setting, visible, programs, monkeypatch):
    fake_gpus(programs, GOOD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    report = read_gpus()
    assert [gpu.uuid for gpu in report.gpus] == visible
    assert len(report.hidden) == 2 - len(visible)


@pytest.mark.parametrize("setting", ["7", "0,7", "GPU-9999", "0,0", "x"])
def test_a_wrong_setting_is_named(setting, programs, monkeypatch):
    fake_gpus(programs, GOOD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    report = read_gpus()
    assert "CUDA_VISIBLE_DEVICES" in report.problem
    assert "unset" in report.remedy
    assert "CUDA_VISIBLE_DEVICES" in check_lines(read_machine(), "real")["nvidia-smi"].repair


@pytest.mark.parametrize("setting", ["", "-1"])
def test_gpus_that_are_hidden_on_purpose_are_no_fault(setting, programs, monkeypatch):
    fake_gpus(programs, GOOD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    machine = read_machine()
    assert "nvidia-smi" not in check_lines(machine, "embedded")
    assert check_lines(machine, "embedded")["GPU"].verdict == "OK"
    assert "unset CUDA_VISIBLE_DEVICES" in check_lines(machine, "real")["GPU"].repair


def test_cuda_counts_the_fastest_gpu_first(programs, monkeypatch):
    fake_gpus(programs, [CARD | OLD_CARD, *GOOD])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert [gpu.uuid for gpu in read_gpus().gpus] == [FIRST, SECOND]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [gpu.uuid for gpu in read_gpus().gpus] == [OLD, FIRST]


def test_how_to_hide_an_old_card_and_that_hiding_it_helps(programs, monkeypatch):
    fake_gpus(programs, [CARD | OLD_CARD, *GOOD])
    line = check_lines(read_machine(), "real")["GPU"]
    assert line.verdict != "OK"
    assert "Better without NVIDIA GeForce GT 1030" in line.repair
    command = line.repair.partition("export ")[2].split()[0]
    name, _, value = command.partition("=")
    monkeypatch.setenv(name, value)
    lines = check_lines(read_machine(), "real")
    assert lines["GPU"].verdict == "OK"
    assert lines["bf16"].verdict == "OK"
    assert "2 x RTX 3090, 48.0 GiB" in lines["GPU"].found


SLICES = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-11111111-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.10gb     Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
"""
A100 = {"mig.mode.current": "Enabled", "memory.total": "81920", "compute_cap": "8.0", "name": "NVIDIA A100"}


@pytest.mark.parametrize(
    ("setting", "slice_gib", "verdict"),
    [(None, 40, "OK"), ("0", 40, "OK"), ("MIG-a28a", 10, "warning"), ("MIG-c738", 40, "OK")],
)
def test_a_gpu_in_mig_mode_counts_as_one_slice(setting, slice_gib, verdict, programs, monkeypatch):
    fake_gpus(programs, [CARD | A100], slices=SLICES)
    if setting is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    report = read_gpus()
    assert len(report.gpus) == 1
    assert 0.9 * slice_gib * GIB < report.gpus[0].memory < slice_gib * GIB
    assert "MIG" in report.problem
    machine = read_machine()
    assert check_lines(machine, "real")["nvidia-smi"].verdict == "warning"
    well_equipped = replace(AUTODL, gpus=report.gpus)
    assert check_lines(well_equipped, "real")["GPU"].verdict == verdict


@pytest.mark.parametrize(
    "line",
    [
        "  MIG 1c.3g.40gb  Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)",
        "  MIG 1g.10gb+me  Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)",
        "  MIG 3g.20gb Device 0: (UUID: MIG-GPU-11111111-aaaa/1/0)",
    ],
)
def test_names_of_slices(line, programs):
    fake_gpus(programs, [CARD | A100], slices=line)
    assert len(read_gpus().gpus) == 1


def test_a_whole_gpu_beside_a_sliced_one_counts(programs, monkeypatch):
    fake_gpus(programs, [CARD | A100, CARD | OTHER], slices=SLICES)
    assert [gpu.uuid for gpu in read_gpus().gpus] == [SECOND]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a28a")
    assert "slice of 10 GB" in read_gpus().gpus[0].name


def test_mig_mode_without_slices(programs):
    fake_gpus(programs, [CARD | A100], slices="GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-11111111-aaaa)")
    report = read_gpus()
    assert report.gpus == ()
    assert report.remedy
