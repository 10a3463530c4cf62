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
    wanted = f"ipykernel=={version}" if version else "ipykernel>=7.1,<8"
    command = [python, "-m", "pip", "install", "-q", "--upgrade", "--ignore-installed", "--no-deps", wanted]
    subprocess.run(command, check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "nest_asyncio"], check=True)  # ipykernel 6 needs it
    return python


def main() -> int:
    versions = sys.argv[1:] or ["6.29.5", NEWEST]
    results = {}
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            python = make_environment(Path(folder) / "venv", version)
            probe = [python, "-c", "import ipykernel; print(ipykernel.__version__)"]
            found = subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip()
            command = [
                python,
                "-m",
                "pytest",
                "-q",
                "-rP",
                "-p",
                "no:cacheprovider",
                ROOT / "tests" / "browser",
            ]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            results[found] = subprocess.run(command, cwd=ROOT, env=environment).returncode
    for version, code in results.items():
        print(f"ipykernel {version}: {'passed' if code == 0 else 'FAILED'}")
    return max(results.values())


if __name__ == "__main__":
    raise SystemExit(main())
