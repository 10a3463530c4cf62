"""The comparison with vLLM: it says why it cannot be made, and knows the size of a KV cache."""

import sys
import time
from collections import namedtuple

import pytest

pytest.importorskip("openai", reason="openai is not installed")

import engine_parity
from engine_parity import CannotBuildError, build, cache_tokens, logged_cache_tokens, run


def test_too_little_disk(monkeypatch, tmp_path):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(engine_parity.shutil, "disk_usage", lambda folder: usage(2 * 10**9))
    with pytest.raises(CannotBuildError, match=r"needs 7 GB of disk, and 2\.0 GB are free"):
        build(tmp_path / "environment", 600)


def test_a_step_that_fails_and_one_that_takes_too_long():
    failing = [sys.executable, "-c", "import sys; sys.exit('no such package')"]
    with pytest.raises(CannotBuildError, match="failed: no such package"):
        run(failing, time.monotonic() + 600)
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(CannotBuildError, match="took too long"):
        run(endless, time.monotonic())


def test_an_environment_that_cannot_be_built_is_no_failure(monkeypatch, tmp_path, capsys):
    def refuse(environment, limit):
        environment.mkdir()
        raise CannotBuildError("there is no such package")

    monkeypatch.setattr(engine_parity, "build", refuse)
    monkeypatch.setattr(sys, "argv", ["engine_parity.py", "--environment", str(tmp_path / "environment")])
    engine_parity.main()
    assert "cannot be built here, because there is no such package." in capsys.readouterr().out
    assert not (tmp_path / "environment").exists()


def test_a_difference_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(engine_parity, "build", lambda environment, limit: None)
    monkeypatch.setattr(engine_parity, "expected_answers", list)
    monkeypatch.setattr(
        engine_parity, "compare", lambda environment, processes, expected: [f"{processes} differ"]
    )
    monkeypatch.setattr(sys, "argv", ["engine_parity.py", "--environment", str(tmp_path / "environment")])
    with pytest.raises(SystemExit, match="1 differ\n2 differ"):
        engine_parity.main()


def test_the_size_of_the_cache():
    log = "INFO [kv_cache_utils.py:1] CPU KV cache size: 1,048,576 tokens, Maximum concurrency for 2,048"
    assert logged_cache_tokens(log) == 1_048_576
    assert logged_cache_tokens("nothing") is None
    assert cache_tokens(2) == 2 * cache_tokens(1)  # each of two processes holds half of the heads
