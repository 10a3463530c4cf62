"""pytest without arguments runs the notebooks beside the other tests, and fails if one of them fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAFETY_NET = 300  # seconds; a run takes about two
SETTINGS = '[tool.pytest.ini_options]\ntestpaths = ["tests", "notebooks"]\n'
#: Neither half needs a plugin here, and without them pytest starts much faster.
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PASSES = "def test_it():\n    pass\n"
FAILS = "def test_it():\n    assert 1 == 2\n"
#: Writes down its process, and runs until somebody ends it.
WAITS = """
import os, time
from pathlib import Path

def test_it():
    Path("at_work").write_text(str(os.getpid()))
    for _ in range(3000):
        time.sleep(0.1)
"""


@pytest.fixture
def course(tmp_path):
    """A course of one test and one "notebook", which is a test file too: that starts faster than a kernel."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    for folder, name in (("tests", "test_one.py"), ("notebooks", "test_two.py")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(PASSES, encoding="utf-8")
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]


def run(course, *arguments: str) -> tuple[int, str]:
    result = subprocess.run(
        command(*arguments),
        cwd=course,
        capture_output=True,
        text=True,
        timeout=SAFETY_NET,
        env=ENVIRONMENT,
    )
    return result.returncode, result.stdout + result.stderr


def test_both_halves_run_and_are_counted(course):
    code, said = run(course)
    assert code == 0, said
    if (os.cpu_count() or 1) > 1:
        assert "notebooks, run beside the tests" in said
        assert said.count("1 passed") == 2
    else:
        assert "2 passed" in said


@pytest.mark.parametrize("folder, name", [("tests", "test_one.py"), ("notebooks", "test_two.py")])
def test_a_failure_in_either_half_fails_the_run(course, folder, name):
    (course / folder / name).write_text(FAILS, encoding="utf-8")
    code, said = run(course)
    assert code == 1
    assert "assert 1 == 2" in said, "the failure itself is shown"


def test_a_notebook_that_cannot_be_collected_fails_the_run(course):
    (course / "notebooks" / "test_two.py").write_text("this is no Python", encoding="utf-8")
    code, said = run(course)
    assert code == 1 and "SyntaxError" in said


@pytest.mark.parametrize("arguments", [["tests", "notebooks"], ["-k", "it"]])
def test_with_a_choice_there_is_one_half(course, arguments):
    code, said = run(course, *arguments)
    assert code == 0 and "beside" not in said


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="on one core there is only one half")
def test_ctrl_c_ends_both_halves(course):
    (course / "notebooks" / "test_two.py").write_text(WAITS, encoding="utf-8")
    (course / "tests" / "test_one.py").write_text(WAITS.replace("at_work", "also"), encoding="utf-8")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(), cwd=course, env=ENVIRONMENT, **silent)
    try:
        wait_for(lambda: (course / "at_work").is_file() and (course / "also").is_file())
        second_half = int((course / "at_work").read_text(encoding="utf-8"))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=SAFETY_NET) == pytest.ExitCode.INTERRUPTED
    finally:
        process.kill()
    assert not Path(f"/proc/{second_half}").exists()


def wait_for(condition) -> None:
    for _ in range(10 * SAFETY_NET):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError("it did not happen")
