"""Check whether this machine can run the course, before anything is installed.

Standard library only, and syntax that Python 3.10 accepts: the check has to run on an outdated image too.
"""

import platform
from importlib import metadata


def package_version(name: str) -> str | None:
    """Installed version of a package, read without importing it; None when it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def print_versions(*packages: str) -> None:
    """Print the version of Python and of each package, one `name version` per line."""
    width = max(len(name) for name in ("Python", *packages))
    print(f"{'Python':<{width}} {platform.python_version()}")
    for name in packages:
        print(f"{name:<{width}} {package_version(name) or 'not installed'}")
