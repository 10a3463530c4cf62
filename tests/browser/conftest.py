"""A real JupyterLab on 127.0.0.1 and a real, headless Chromium for the browser tests.

Skipped, with the reason, where Playwright or Chromium is missing. Everything that JupyterLab keeps (settings,
files, kernels) lives in a temporary folder; server and browser are stopped at the end, also after a failure.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "prompt_box"))  # for the hostile texts, which both folders use

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
START_SECONDS = 240  # a safety net: JupyterLab takes some seconds
# A settings file each: no news, no windowing (it takes cells out of the page that are not in view).
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


class Lab:
    """A running JupyterLab: its address, its token and its folder of notebooks."""

    def __init__(self, folder: Path, disabled_extensions: tuple[str, ...] = ()):
        self.token = secrets.token_hex(16)
        self.folder = folder / "notebooks"
        self.folder.mkdir()
        self.runtime = folder / "run"
        self.log = (folder / "log").open("w")
        for name, content in SETTINGS.items():
            file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))
        page = {"disabledExtensions": dict.fromkeys(disabled_extensions, True)}
        (folder / "jupyter_config_dir" / "labconfig").mkdir(parents=True)
        (folder / "jupyter_config_dir" / "labconfig" / "page_config.json").write_text(json.dumps(page))
        self.process = subprocess.Popen(
            self.command(),
            env=self.environment(folder),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its kernels can be stopped with it
        )
        self.url = self.wait_for_address()

    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            "--port=0",
            f"--notebook-dir={self.folder}",
            "--LabApp.expose_app_in_browser=True",  # the tests run commands through window.jupyterapp
            # Should the tests be killed, kernels and server end by themselves.
            "--MappingKernelManager.cull_idle_timeout=300",
            "--ServerApp.shutdown_no_activity_timeout=300",
        ]

    def environment(self, folder: Path) -> dict[str, str]:
        environment = dict(os.environ)
        environment.pop("COURSE_MODEL", None)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "COURSE_CACHE"):
            environment[name] = str(folder / name.lower())
        environment["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
        environment["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
        environment["JUPYTER_RUNTIME_DIR"] = str(self.runtime)
        environment["JUPYTER_TOKEN"] = self.token
        environment["NO_PROXY"] = "127.0.0.1"
        environment["PYTHONPATH"] = str(ROOT)
        return environment

    def wait_for_address(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            for file in self.runtime.glob("jpserver-*.json"):
                text = file.read_text()
                if text:  # it is created empty
                    return json.loads(text)["url"]
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{Path(self.log.name).read_text()[-2000:]}")

    def write(self, name: str, *sources: str) -> str:
        """Write a notebook of code cells and return the address that opens it."""
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        notebook = nbformat.v4.new_notebook(cells=cells)
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.metadata["kernelspec"] = kernel
        nbformat.write(notebook, self.folder / name)
        return self.address(name)

    def address(self, name: str) -> str:
        """Each notebook in a workspace of its own: a reloaded page would open the others too."""
        return f"{self.url}lab/workspaces/{Path(name).stem}/tree/{name}?token={self.token}&reset"

    def stop(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what is left: kernels that did not end in time
        self.process.wait()
        self.log.close()


def start_lab(tmp_path_factory, **options) -> Lab:
    """A running JupyterLab; skips the test where there is no browser to look at it."""
    pytest.importorskip("playwright", reason="Playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    try:
        return Lab(tmp_path_factory.mktemp("lab"), **options)
    except RuntimeError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    server = start_lab(tmp_path_factory)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def lab_without_javascript(tmp_path_factory):
    """A server whose page shows no JavaScript outputs, as a careful administrator may want it."""
    server = start_lab(tmp_path_factory, disabled_extensions=("@jupyterlab/javascript-extension",))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser(lab, request):
    playwright = request.getfixturevalue("playwright_driver")  # only now: it may be missing, see `lab`
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
    # One context for all pages: they share the cache, so that JupyterLab's code is read only once.
    yield chromium.new_context(viewport={"width": 1000, "height": 900}, device_scale_factor=1.5)
    chromium.close()


@pytest.fixture(scope="session")
def screenshot():
    """screenshot(locator, name) writes images/NAME.png, only if COURSE_SCREENSHOTS=1."""

    def take(locator, name):
        if os.environ.get("COURSE_SCREENSHOTS") == "1":
            (ROOT / "images").mkdir(exist_ok=True)
            locator.screenshot(path=ROOT / "images" / f"{name}.png")

    return take


@pytest.fixture
def chat(opened):
    """The page that a module has `opened`, with no text in its entry and no conversation."""
    if not opened.is_ready():  # a test before has failed, and this one shall not fail with it
        opened.begin_again()
    opened.entry.fill("")
    if opened.answers():
        opened.clear()
    return opened
