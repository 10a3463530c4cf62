"""The whole run in two halves: pytest without arguments runs all notebooks beside all other tests.

A notebook computes with one thread, and so do the tests, so each half has a core. The second half is a pytest
of its own (`pytest notebooks`); what it says is shown at the end, and a failure there fails the run. With
arguments, such as `pytest tests/vram`, with `-k`, or on one core, there is only one half, as ever.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
NOTEBOOKS = ROOT / "notebooks"
PATIENCE = 60  # seconds that the notebooks get to end by themselves after Ctrl-C


def wants_everything(config: pytest.Config) -> bool:
    """Whether this run was asked for all tests, without a choice among them."""
    chosen = [config.option.keyword, config.option.markexpr, config.option.collectonly]
    remembered = [config.getoption("lf", False), config.getoption("stepwise", False)]
    from_settings = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return from_settings and not any([*chosen, *remembered])


class NotebooksBeside:
    """Runs `pytest notebooks` while this pytest runs the other tests."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="notebooks-beside-")
        self.said = Path(self.folder.name) / "said.txt"
        options = ["-q", "-p", "no:cacheprovider", "--color=no"]
        command = [sys.executable, "-m", "pytest", *options, str(NOTEBOOKS)]
        with self.said.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Wait for the notebooks; a failure of theirs fails a run that was green so far."""
        ended_early = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        if ended_early or session.shouldfail:
            self.stop()
            return
        if self.process.poll() is None:
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            reporter.write_line("\nThe other tests are done, the notebooks not yet.")
        if self.process.wait() != 0 and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """Show the last line of what the notebooks said; all of it if something failed."""
        terminalreporter.section("notebooks, run beside the tests")
        lines = self.said.read_text(encoding="utf-8").splitlines()
        if self.process.returncode == 0:
            lines = lines[-1:]
        for line in lines:
            terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        self.stop()
        self.folder.cleanup()

    def stop(self) -> None:
        """End the notebooks and their kernels, if they still run."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def pytest_configure(config: pytest.Config) -> None:
    several_cores = (os.cpu_count() or 1) > 1
    if wants_everything(config) and several_cores:
        config.args = [folder for folder in config.args if Path(folder).resolve() != NOTEBOOKS]
        config.pluginmanager.register(NotebooksBeside(), "notebooks-beside")
