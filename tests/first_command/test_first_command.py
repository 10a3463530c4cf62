"""README's first command as it stands there, in a fresh clone: an answer, then JupyterLab's page.

Once as root and once as another user, each with a clone, a home and a virtual environment of its own. They
take about a minute and 1.7 GB each, and are deleted afterwards. pip is held to the very build of torch that
runs the tests (PIP_CONSTRAINT). Where that is a GPU build, or pip would not find it, the test is skipped: pip
would fetch several GB of CUDA packages.
"""

import importlib.metadata
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from lab_run import ADDRESS

ROOT = Path(__file__).resolve().parents[2]
ORDINARY_USER = "nobody"
LARGEST_WAIT = 600  # seconds, for a command that only looks something up

THIS_TORCH = f"torch=={importlib.metadata.version('torch')}"
# What would lead the command elsewhere than a newcomer's shell does.
NOT_INHERITED = ("VIRTUAL_ENV", "PYTHON", "COURSE_", "JUPYTER", "IPYTHON", "MODELSCOPE_", "XDG_")
# A rented machine has no desktop. What a desktop does, test_start.py tests.
DESKTOP = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def command_in_readme() -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"<!-- first command -->\n```bash\n(.+?)\n```\n<!-- end -->", readme, flags=re.S)
    assert len(found) == 1, "README.md has one first command, between its two marks"
    return found[0]


def pip_finds_this_torch() -> bool:
    """Whether pip, as it is set up here, would install the very build of torch that runs this test."""
    options = ["--dry-run", "--ignore-installed", "--no-deps"]
    pip = [sys.executable, "-m", "pip", "install", *options, THIS_TORCH]
    return subprocess.run(pip, capture_output=True, timeout=LARGEST_WAIT).returncode == 0


def as_user(user: str, command: list[str]) -> list[str]:
    """The command line that runs a command as this user."""
    if user == pwd.getpwuid(os.geteuid()).pw_name:
        return command
    return [str(shutil.which("runuser")), "-u", user, "--", *command]


def find_python(user: str) -> Path | None:
    """A Python of this test's own version that the user may run and that can make virtual environments."""
    name = f"python3.{sys.version_info.minor}"
    for folder in (Path(sys.base_prefix) / "bin", Path("/usr/local/bin"), Path("/usr/bin")):
        python = folder / name
        command = as_user(user, [str(python), "-c", "import ensurepip, venv"])
        if subprocess.run(command, capture_output=True, timeout=LARGEST_WAIT).returncode == 0:
            return python
    return None


@pytest.fixture(params=["root", "ordinary user"])
def user(request):
    """Name of the user who types the command; skipped, with the reason, where that cannot be."""
    own_name = pwd.getpwuid(os.geteuid()).pw_name
    is_root = os.geteuid() == 0
    if request.param == "root" and not is_root:
        pytest.skip("only root can try this as root")
    if torch.version.cuda or torch.version.hip:
        pytest.skip("torch is a GPU build here: a second copy would take several GB")
    if not (ROOT / ".git").exists():
        pytest.skip("this folder is no git repository: there is nothing to clone")
    if not pip_finds_this_torch():
        pytest.skip(f"pip does not find this build of torch ({torch.__version__}) and would fetch another")
    if request.param == "root" or not is_root:
        return own_name
    if shutil.which("runuser") is None:
        pytest.skip("there is no runuser here to become another user with")
    try:
        pwd.getpwnam(ORDINARY_USER)
    except KeyError:
        pytest.skip(f"there is no user {ORDINARY_USER} here")
    return ORDINARY_USER


@pytest.fixture
def newcomer(user):
    """A folder of the user's own with a home, a clone of the course and a `python3`; deleted afterwards."""
    python = find_python(user)
    if python is None:
        pytest.skip(f"the user {user} cannot run a Python 3.{sys.version_info.minor} with venv here")
    with tempfile.TemporaryDirectory(prefix="first-command-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "home").mkdir()
        for settings in (".config/pip/pip.conf", ".pip/pip.conf"):  # which package index this machine uses
            if (Path.home() / settings).exists():
                (folder / "home" / settings).parent.mkdir(parents=True)
                shutil.copy(Path.home() / settings, folder / "home" / settings)
        clone = ["git", "clone", "--quiet", str(ROOT), str(folder / "course")]
        subprocess.run(clone, check=True, timeout=LARGEST_WAIT)
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").symlink_to(python)
        if user != pwd.getpwuid(os.geteuid()).pw_name:
            subprocess.run(["chown", "-R", user, str(folder)], check=True, timeout=LARGEST_WAIT)
        yield folder


def environment_of(user: str, folder: Path) -> dict[str, str]:
    """The environment of a newcomer's shell on this machine, and what keeps the test within reason."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NOT_INHERITED) and name not in DESKTOP
    }
    constraint = folder / "constraint.txt"
    constraint.write_text(THIS_TORCH)
    environment["PIP_CONSTRAINT"] = str(constraint)
    # pip compiles all packages, which takes a minute; without it Python compiles what the command uses.
    environment["PIP_COMPILE"] = "0"
    if user == pwd.getpwuid(os.geteuid()).pw_name:
        cache = [sys.executable, "-m", "pip", "cache", "dir"]
        found = subprocess.run(cache, capture_output=True, text=True, check=True, timeout=LARGEST_WAIT)
        environment["PIP_CACHE_DIR"] = found.stdout.strip()
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    return environment


def test_first_command(user, newcomer, run, check_page, check_end):
    # runuser sets HOME to what the system knows of the user: nobody has none.
    own_home = f"HOME={newcomer / 'home'}"
    command = as_user(user, ["env", own_home, "bash", "-c", command_in_readme()])
    first = run(command, newcomer / "course", environment_of(user, newcomer))
    found = first.wait_for(ADDRESS)

    before_lab, _, _ = first.text().partition("JupyterLab is ready")
    _, _, answer = before_lab.partition('$ python -m helpers.inference "')
    assert "Model: the embedded toy model" in answer
    assert "language model is" in answer, "an answer to the question"
    assert "finish reason: stop" in answer
    port = found[1]
    first.wait_for(re.compile("Ctrl-C in this terminal ends JupyterLab"))
    assert f"ssh -N -L {port}:127.0.0.1:{port} {user}@" in first.text()
    owner = (newcomer / "course" / ".venv" / "pyvenv.cfg").owner()
    assert owner == user

    check_page(found[0])
    check_end(first, int(port))
    assert "Traceback" not in first.text()
