"""`python -m helpers.start` in the environment of the tests: with a browser or none, and other trouble."""

import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from chinese_text import check_chinese
from lab_run import ADDRESS, ROOT, UNTIL_ENDED, is_open

from helpers import start

READY = re.compile("Ctrl-C in this terminal ends JupyterLab")
LAB_ONLY = [
    sys.executable,
    "-c",
    "from helpers import start; start.run_lab()",
]  # without the answer before it
START = [sys.executable, "-m", "helpers.start"]
# Ctrl-C at the worst moment: a connection has come, and Tornado is about to look up who serves it.
CTRL_C_WITH_A_CONNECTION = """
import signal
from tornado.platform.asyncio import BaseAsyncIOLoop
from helpers import start

handle_events = BaseAsyncIOLoop._handle_events

def interrupted(loop, file_descriptor, events):
    signal.raise_signal(signal.SIGINT)
    handle_events(loop, file_descriptor, events)

BaseAsyncIOLoop._handle_events = interrupted
start.run_lab()
"""
JUPYTERS_FIRST_PORT = 8888


@pytest.fixture
def environment(tmp_path):
    """No desktop, and folders for everything that JupyterLab keeps, so that it finds no other one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "COURSE_"))}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        kept.pop(name, None)
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "COURSE_CACHE")
    for name in folders:
        folder = tmp_path / name.lower()
        folder.mkdir()
        kept[name] = str(folder)
    kept["PYTHONPATH"] = str(ROOT)
    return kept


@pytest.fixture
def browser(tmp_path, environment):
    """A "browser" that writes down what it is asked to open; returns the file in which it does."""
    opened = tmp_path / "opened"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\ncat "${{1#file://}}" > {opened}.part && mv {opened}.part {opened}\n')
    script.chmod(0o755)
    environment["BROWSER"] = f"{script} %s"
    return opened


def test_desktop_opens_the_notebook(run, environment, browser, check_end, wait_until):
    lab = run(LAB_ONLY, ROOT, environment)
    found = lab.wait_for(ADDRESS)
    lab.wait_for(READY)
    wait_until(browser.exists)
    # JupyterLab hands the browser a small page that leads on to the address with the token.
    assert found[0] in browser.read_text()
    check_end(lab, int(found[1]))


def test_without_a_desktop_nothing_is_opened(run, environment, browser, monkeypatch):
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not start.has_desktop()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert start.has_desktop()


@pytest.fixture
def taken_port():
    """JupyterLab's usual port, taken by this test if nothing else has it."""
    with socket.socket() as server:
        # As servers do: a port of which only old connections are left is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            server.bind(("127.0.0.1", JUPYTERS_FIRST_PORT))
            server.listen()
        assert is_open("127.0.0.1", JUPYTERS_FIRST_PORT)
        yield JUPYTERS_FIRST_PORT


def test_a_taken_port_is_passed_over(run, environment, taken_port, check_page, check_end):
    lab = run(LAB_ONLY, ROOT, environment)
    found = lab.wait_for(ADDRESS)
    lab.wait_for(READY)
    port = int(found[1])
    assert port != taken_port
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in lab.text()
    check_page(found[0])
    check_end(lab, port)


def test_ctrl_c_ends_the_kernels_too(run, environment, check_end, start_kernel):
    lab = run(LAB_ONLY, ROOT, environment)
    found = lab.wait_for(ADDRESS)
    lab.wait_for(READY)
    kernel = start_kernel(found[0], Path(environment["JUPYTER_RUNTIME_DIR"]))
    check_end(lab, int(found[1]))
    assert not kernel.exists(), "JupyterLab removes the file of a kernel that has ended"


def test_ctrl_c_in_the_middle_of_a_connection(run, environment):
    lab = run([sys.executable, "-c", CTRL_C_WITH_A_CONNECTION], ROOT, environment)
    found = lab.wait_for(ADDRESS)
    lab.wait_for(READY)
    is_open("127.0.0.1", int(found[1]))
    assert lab.process.wait(UNTIL_ENDED) == 0, lab.text()
    assert "Traceback" not in lab.text()


def test_settings_of_the_user_do_not_open_the_server(run, environment, check_page, check_end):
    settings = 'c.ServerApp.ip = "0.0.0.0"\nc.IdentityProvider.token = ""\nc.ServerApp.allow_root = False\n'
    Path(environment["JUPYTER_CONFIG_DIR"], "jupyter_server_config.py").write_text(settings)
    lab = run(LAB_ONLY, ROOT, environment)
    found = lab.wait_for(ADDRESS)
    lab.wait_for(READY)
    check_page(found[0])
    check_end(lab, int(found[1]))


def test_a_second_start_points_to_the_first(run, environment, check_end):
    lab = run(LAB_ONLY, ROOT, environment)
    found = lab.wait_for(ADDRESS)
    lab.wait_for(READY)
    again = run(START, ROOT, environment)
    again.wait_for(re.compile("JupyterLab already runs from this Python environment"))
    assert again.process.wait(timeout=600) == 0
    assert found[0] in again.text()
    check_end(lab, int(found[1]))


def test_a_lab_of_another_environment_is_not_used(run, environment, tmp_path):
    """As on AutoDL, when the course was installed into .venv. `sleep` stands for that server's process."""
    other = run(["sleep", "3000"], tmp_path, environment)
    description = '{"pid": %d, "root_dir": "%s", "url": "http://127.0.0.1:9/", "token": "secret"}'
    file = Path(environment["JUPYTER_RUNTIME_DIR"], f"jpserver-{other.process.pid}.json")
    file.write_text(description % (other.process.pid, ROOT.parent))
    question = "from helpers import start; print(start.find_running_lab())"
    command = [sys.executable, "-c", question]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert "from another Python environment" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "None"


def test_no_answer_no_jupyterlab(run, environment, tmp_path):
    environment["COURSE_MODEL"] = str(tmp_path / "no-model-here")
    attempt = run(START, ROOT, environment)
    assert attempt.process.wait(timeout=600) == 1
    assert "no-model-here" in attempt.text(), "it says what is wrong"
    assert "Traceback" not in attempt.text()
    assert "JupyterLab" not in attempt.text()


def test_ctrl_c_while_the_model_answers(monkeypatch):
    def interrupted(question):
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "ask", interrupted)
    assert start.main() == 130


def test_without_jupyterlab_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None)
    assert start.main() == 1
    assert "pip install -r requirements.txt" in capsys.readouterr().err


def test_the_notebook_in_the_readers_language_is_opened(monkeypatch, tmp_path):
    monkeypatch.setattr(start, "ROOT", tmp_path)
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert start.notebook_path() == "notebooks/en/04_inference.ipynb"
    (tmp_path / "notebooks/zh").mkdir(parents=True)
    (tmp_path / "notebooks/zh/04_inference.ipynb").write_text("{}")
    assert start.notebook_path() == "notebooks/zh/04_inference.ipynb"
    monkeypatch.setenv("COURSE_LANG", "en")
    assert start.notebook_path() == "notebooks/en/04_inference.ipynb"


@pytest.mark.parametrize("sentence", [start.READY, start.ALREADY_RUNS, start.ANOTHER_RUNS])
def test_what_it_says_in_chinese(sentence, monkeypatch):
    values = {"address": "http://127.0.0.1:8888/lab", "notebook": "04_inference.ipynb", "port": 8888}
    values["user"] = "root"
    english = start.say(sentence, **values)
    monkeypatch.setenv("COURSE_LANG", "zh")
    check_chinese(english, start.say(sentence, **values))
