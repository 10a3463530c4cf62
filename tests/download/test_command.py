"""The command of notebook 03, started as a learner starts it."""

import subprocess
import sys
from pathlib import Path

import pytest
from stage import MODEL_ID, PATIENCE, SHARD, Stage


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
