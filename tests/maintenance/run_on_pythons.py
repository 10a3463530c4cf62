"""Run the tests on every Python that the course allows and this machine has. By hand; needs a package index.

    python tests/maintenance/run_on_pythons.py                            all but the Python that runs this
    python tests/maintenance/run_on_pythons.py 3.12                       only this one
    python tests/maintenance/run_on_pythons.py 3.12 --tests notebooks tests/vram --keep /somewhere/pythons

Each Python gets a clone of the last commit and a virtual environment, in a temporary folder outside the tree
that is deleted afterwards. The browser tests are left out unless they are named: they do not depend on the
version of Python. Where the index has no CPU build of torch for a Python, pip fetches the CUDA build, which
needs several GB while its tests run; a Python for which the disk has no room is skipped, with the reason.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
GB = 10**9  # bytes

#: Free disk that an environment with the CUDA build of torch needs while pip unpacks it, in bytes.
DISK_NEEDED = 15 * GB


@dataclass
class Result:
    """What came out of one Python; `failures` holds the names of the tests that failed."""

    version: str
    outcome: str
    torch: str = ""
    minutes: float = 0.0
    failures: list[str] = field(default_factory=list)


def version_of(python: Path) -> str | None:
    """Version of an interpreter, as in "3.12.1"; None if it does not run."""
    question = "import platform; print(platform.python_version())"
    try:
        answer = subprocess.run([python, "-I", "-c", question], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0:
        return None
    return answer.stdout.strip()


def find_pythons() -> dict[str, Path]:
    """One interpreter for each minor version that the course allows, as {"3.12": path}."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = SpecifierSet(project["requires-python"])
    places = [Path(sys.executable), Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt/homebrew/bin")]
    places += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    places += [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found: dict[str, Path] = {}
    for place in places:
        candidates = [place] if place.is_file() else sorted(place.glob("python3.[0-9]*"))
        for python in candidates:
            if not python.name.removeprefix("python").replace(".", "").isdigit():
                continue  # such as python3.12-config
            version = version_of(python)
            if version is None or version not in allowed:
                continue
            minor = version.rpartition(".")[0]
            found.setdefault(minor, python)
    return found


def install(python: Path, folder: Path) -> Path:
    """Clone the last commit into `folder` and install it into a virtual environment; returns its Python.

    An environment that is already there (--keep) is used again.
    """
    course = folder / "course"
    if course.exists():
        shutil.rmtree(course)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(course)], check=True)
    new_python = folder / "venv" / "bin" / "python"
    if not new_python.exists():
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
    # Without a cache: it would keep a second copy of everything on the disk.
    pip = [new_python, "-m", "pip", "install", "--no-cache-dir", "--quiet"]
    subprocess.run([*pip, "-r", "requirements.txt", "-e", ".[test]"], cwd=course, check=True)
    return new_python


def run_tests(python: Path, course: Path, tests: list[str]) -> tuple[int, ElementTree.Element | None]:
    """Run pytest with `python` on the clone; returns its exit code and its report, None if it wrote none."""
    report = course / "report.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # The clone is tested, not the tree that this script lies in, whatever the caller's PYTHONPATH says.
    search_path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PYTHONPATH": str(course), "PATH": search_path}
    code = subprocess.run([*command, *tests], cwd=course, env=environment).returncode
    if not report.exists():
        return code, None
    return code, ElementTree.parse(report).getroot()


def failed_tests(report: ElementTree.Element) -> list[str]:
    """Names of the tests that failed or could not be set up."""
    names = []
    for case in report.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            names.append(f"{case.get('classname')} :: {case.get('name')}")
    return names


def try_python(python: Path, version: str, tests: list[str], folder: Path) -> Result:
    """Install the course for one Python in `folder`, run the tests, and say what came out."""
    result = Result(version, "FAILED")
    free = shutil.disk_usage(folder).free
    has_environment = (folder / "venv").exists()
    if free < DISK_NEEDED and not has_environment:
        result.outcome = f"skipped: {free / GB:.0f} GB free, {DISK_NEEDED / GB:.0f} GB needed"
        return result
    started = time.monotonic()
    try:
        new_python = install(python, folder)
    except subprocess.CalledProcessError as error:
        result.outcome = f"FAILED: cannot be installed ({error})"
        return result
    question = "from importlib.metadata import version; print(version('torch'))"
    torch = subprocess.run([new_python, "-c", question], check=True, capture_output=True, text=True)
    result.torch = torch.stdout.strip()
    code, report = run_tests(new_python, folder / "course", tests)
    result.minutes = (time.monotonic() - started) / 60
    if report is None:
        result.outcome = f"FAILED: pytest ended with code {code} and wrote no report"
        return result
    result.failures = failed_tests(report)
    suite = next(report.iter("testsuite"))
    skipped = int(suite.get("skipped"))
    passed = int(suite.get("tests")) - skipped - len(result.failures)
    result.outcome = f"{passed} passed, {len(result.failures)} failed, {skipped} skipped"
    if code != 0:
        result.outcome = f"FAILED: {result.outcome}"
    return result


def print_table(results: list[Result]) -> None:
    """One line a Python, and below it the tests that failed."""
    print(f"\n{'Python':8} {'torch':14} {'minutes':>7}  result")
    for result in results:
        print(f"{result.version:8} {result.torch:14} {result.minutes:7.1f}  {result.outcome}")
        for name in result.failures:
            print(f"{'':33}{name}")


def main() -> int:
    """Run the tests on each Python that is wanted. Returns 1 if any of them failed."""
    parser = argparse.ArgumentParser(description="Run the tests on other Pythons of this machine.")
    parser.add_argument("versions", nargs="*", help="such as 3.12; default: all but the one that runs this")
    parser.add_argument("--tests", nargs="+", help="what pytest runs; default: all but tests/browser")
    parser.add_argument(
        "--keep", type=Path, help="work in this folder and keep the environments for next time"
    )
    options = parser.parse_args()
    found = find_pythons()
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    versions = options.versions or sorted(set(found) - {own})
    tests = options.tests or ["--ignore=tests/browser"]
    results = []
    for version in versions:
        if version not in found:
            results.append(Result(version, "skipped: not on this machine, or not a Python of the course"))
            continue
        with tempfile.TemporaryDirectory(prefix="course-pythons-") as temporary:
            folder = (options.keep or Path(temporary)).resolve() / version
            folder.mkdir(parents=True, exist_ok=True)
            results.append(try_python(found[version], version, tests, folder))
    print_table(results)
    return int(any(result.outcome.startswith("FAILED") for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
