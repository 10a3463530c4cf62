"""Two network namespaces with a cable between them: to programs inside, two computers in one network."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

ADDRESSES = ("10.77.7.1", "10.77.7.2")  # nobody outside of the two namespaces sees them


def ip(*arguments: str) -> None:
    """Call `ip`; CalledProcessError with what it said if it refuses."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=60)


def why_not() -> str:
    """Why this computer cannot have such namespaces; "" if it can."""
    if shutil.which("ip") is None:
        return "there is no ip command (package iproute2)"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    try:
        with two_computers():
            return ""
    except subprocess.CalledProcessError as error:
        return f"ip refuses: {error.stderr.strip()}"


@contextmanager
def two_computers() -> Iterator[list[str]]:
    """Two namespaces with one address each; yields their names, and removes them at the end."""
    names = [f"course{os.getpid()}a", f"course{os.getpid()}b"]
    try:
        for name in names:
            ip("netns", "add", name)
        ends = [f"v{os.getpid()}a", f"v{os.getpid()}b"]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "link", "set", end, "name", "cable")
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=60)
