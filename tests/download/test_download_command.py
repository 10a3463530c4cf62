"""The command of notebook 03, started as a learner starts it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stage import MODEL_ID, PATIENCE, SHARD, Stage

from helpers import EMBEDDED_MODEL, REAL_MODEL_ID
from helpers.download import command as module
from helpers.download import download


@pytest.fixture
def command(tmp_path):
    """A function that runs the command, with a hub in the background."""
    stage = Stage(tmp_path)

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "helpers.download", *arguments, "--cache-dir", str(stage.cache)],
            env={**stage.environment, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    with stage.hub:
        yield run


def test_plan_download_verify_repair(command):
    assert "6 files" in command("plan", MODEL_ID).stdout
    result = command("download", MODEL_ID)
    assert result.returncode == 0, result.stderr
    folder = result.stdout.splitlines()[-1]
    assert command("verify", MODEL_ID, "--full").returncode == 0
    assert command("verify", folder).returncode == 0
    (Path(folder) / SHARD).write_bytes(b"")
    result = command("verify", MODEL_ID)
    assert result.returncode == 1
    assert SHARD in result.stderr
    assert "Traceback" not in result.stderr
    assert command("verify", MODEL_ID, "--repair").returncode == 0


def test_no_network(command):
    result = command("download", MODEL_ID, MODELSCOPE_ENDPOINT="http://no-such-host.invalid", http_proxy="")
    assert result.returncode == 1
    assert result.stderr.startswith("No connection to no-such-host.invalid")


# Names and flags, in this process


def outcome(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, output and errors of the command."""
    status = module.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


@pytest.fixture
def real(local_hub, tmp_path):
    """The local hub under the real model's name, which a test may give it; and a cache for it."""
    local_hub.model_id = REAL_MODEL_ID
    return tmp_path / "cache"


NAMES = [
    "real",
    "Real",
    "Qwen1.5-MoE-A2.7B-Chat",
    "qwen/qwen1.5-moe-a2.7b-chat",
    "Qwen/Qwen1.5-MoE-A2.7B-Chat",
]


@pytest.mark.parametrize("action", ["plan", "download", "verify"])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_real_model(real, capsys, name, action):
    folder = download("real", cache_dir=real)
    capsys.readouterr()
    status, out, err = outcome(capsys, action, name, "--cache-dir", real)
    assert (status, err) == (0, "")
    if action == "download":
        assert out.splitlines()[-1] == str(folder)


@pytest.mark.parametrize("action", ["plan", "download", "verify"])
def test_the_embedded_model_needs_no_download(capsys, action):
    before = sorted(EMBEDDED_MODEL.iterdir())
    status, out, err = outcome(capsys, action, "embedded")
    assert (status, err) == (0, "")
    assert "nothing is to be downloaded" in out
    assert sorted(EMBEDDED_MODEL.iterdir()) == before


def test_verify_takes_a_folder_and_the_others_say_that_they_do_not(folder, capsys):
    assert outcome(capsys, "verify", folder)[0] == 0
    assert outcome(capsys, "verify", folder / "config.json")[0] == 0
    for action in ("plan", "download"):
        status, _, err = outcome(capsys, action, folder)
        assert status == 1
        assert "is a folder: verify checks one" in err


def test_verify_of_the_real_model_finds_the_recorded_folder(real, capsys, monkeypatch):
    folder = download("real", cache_dir=real)
    capsys.readouterr()
    monkeypatch.setenv("MODELSCOPE_CACHE", str(real.parent / "another"))
    status, _, err = outcome(capsys, "verify", "real")
    assert (status, err) == (0, "")
    shutil.rmtree(folder)
    status, _, err = outcome(capsys, "verify", "real")
    assert status == 1
    assert "run download" in err
    assert "--cache-dir" in err


def test_an_adopted_folder_is_named_by_a_flag(local_hub, source, tmp_path, capsys):
    shutil.copytree(source, tmp_path / "mine")
    status, out, err = outcome(capsys, "verify", tmp_path / "mine", "--id", MODEL_ID)
    assert (status, err) == (0, "")
    assert "hub's list" in out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["plan", "reel"], "did you mean real"),
        (["download", "./nothing"], "no folder ./nothing"),
        (["verify", "somebody/never-downloaded"], "run download"),
        (["plan", MODEL_ID, "--revision", "../x"], "A revision is a word like master"),
        (["plan", MODEL_ID, "--speed", "0"], "--speed 10"),
        (["plan", MODEL_ID, "--speed", "nan"], "--speed 10"),
        (["plan", "somebody/unknown"], "it has no such thing"),
    ],
)
def test_what_the_command_refuses(local_hub, capsys, arguments, words):
    status, _, err = outcome(capsys, *arguments)
    assert status == 1
    assert words in err
    assert len(err.splitlines()) == 1


def test_errors_name_flags_and_not_arguments_of_python(folder, capsys, monkeypatch):
    (folder / SHARD).write_bytes(b"")
    status, _, err = outcome(capsys, "verify", folder)
    assert status == 1
    assert "verify with --repair" in err
    assert "repair=True" not in err
    small = shutil.disk_usage(folder)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    status, _, err = outcome(capsys, "plan", MODEL_ID, "--cache-dir", folder.parents[3])
    assert "pass --cache-dir" in err
    assert "cache_dir=" not in err


def test_a_cache_that_cannot_be_a_folder(local_hub, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    status, _, err = outcome(capsys, "download", MODEL_ID, "--cache-dir", tmp_path / "file" / "cache")
    assert status == 1
    assert "in the way" in err
    assert "again" not in err
