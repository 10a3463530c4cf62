"""Run the browser tests of the prompt box on several versions of ipykernel. By hand; needs a package index.

    python tests/maintenance/matrix_ipykernel.py [6.29.5 7.4.0 ...]

Each version gets a small virtual environment that borrows everything else from the one that runs this script.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEWEST = ""  # whatever the index has below 8


def make_environment(folder: Path, version: str) -> Path:
    """A virtual environment with this ipykernel; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    shared = Path(sysconfig.get_path("purelib"))
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "shared.pth").write_text(f"{shared}\n")
    (folder / "share").mkdir(exist_ok=True)
    (folder / "share" / "jupyter").symlink_to(Path(sys.prefix) / "share" / "jupyter")  # JupyterLab's page
    wanted = "ipykernel>=7.1,<8"
    if version:
        wanted = f"ipykernel=={version}"
    pip = [python, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "--upgrade", "--ignore-installed", "--no-deps", wanted], check=True)
    subprocess.run([*pip, "nest_asyncio"], check=True)  # ipykernel 6 needs it
    return python


def run_tests(version: str) -> tuple[str, bool]:
    """The version that was installed, and whether the browser tests passed on it."""
    with tempfile.TemporaryDirectory() as folder:
        python = make_environment(Path(folder) / "venv", version)
        probe = [python, "-c", "import ipykernel; print(ipykernel.__version__)"]
        installed = subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip()
        tests = [python, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider", ROOT / "tests" / "browser"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(tests, cwd=ROOT, env=environment)
    return installed, run.returncode == 0


def main() -> int:
    versions = sys.argv[1:] or ["6.29.5", NEWEST]
    verdicts = {True: "passed", False: "FAILED"}
    results = dict(run_tests(version) for version in versions)
    for installed, passed in results.items():
        print(f"ipykernel {installed}: {verdicts[passed]}")
    if not all(results.values()):
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
