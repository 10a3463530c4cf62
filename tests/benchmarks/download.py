"""How fast `helpers.download` is: `python tests/benchmarks/download.py [--gigabytes 1]`.

Run it from the course folder.

Download: against curl, which fetches the same files from the same loopback hub and checks nothing (bar: at
most 1.6 times its time). Verify: against sha256sum, started once per file (bar: faster on two or more cores).
Each figure is the best of three runs; the two that are compared take turns.
"""

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.download import download, verify
from helpers.download.local_hub import LocalHub

MODEL_ID = "somebody/large-model"
SHARDS = 8


def best_of_three(*actions) -> list[float]:
    """The shortest of three times of each action, in seconds; they take turns, so a busy moment hits all."""
    times = {action: [] for action in actions}
    for _ in range(3):
        for action in actions:
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                action()
            times[action].append(time.perf_counter() - start)
    return [min(times[action]) for action in actions]


def serve(folder: str) -> None:
    """Run the hub in a process of its own until its input ends; it hashes its files before anybody asks."""
    with LocalHub(folder, MODEL_ID) as server:
        server.file_list()
        print(server.environment["MODELSCOPE_ENDPOINT"], flush=True)
        sys.stdin.read()


def make_files(folder: Path, gigabytes: float) -> list[str]:
    """Write the shards, of random bytes, and return their names."""
    folder.mkdir()
    block = os.urandom(10**6)
    for number in range(SHARDS):
        with (folder / f"shard-{number}.bin").open("wb") as file:
            for _ in range(int(gigabytes * 1000 / SHARDS)):
                file.write(block)
    return sorted(os.listdir(folder))


def measure_download(source: Path, names: list[str], temporary: Path) -> tuple[float, float, Path]:
    """Seconds by curl and by the course, and the folder that the course has filled."""
    cache = temporary / "cache"
    copy = temporary / "copy"
    command = [sys.executable, __file__, "--serve", str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        os.environ.update(MODELSCOPE_ENDPOINT=url, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
        query = f"{url}/api/v1/models/{MODEL_ID}/repo?Revision=master&FilePath="
        curl = ["curl", "-sS"]
        for name in names:
            curl += ["-o", str(copy / name), query + name]

        def run_curl() -> None:
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            subprocess.run(curl, check=True)

        def run_download() -> None:
            shutil.rmtree(cache, ignore_errors=True)
            download(MODEL_ID, cache_dir=cache)

        by_curl, by_course = best_of_three(run_curl, run_download)
        folder = download(MODEL_ID, cache_dir=cache)
        server.stdin.close()
    return by_curl, by_course, folder


def measure_verify(folder: Path, names: list[str]) -> tuple[float, float, float]:
    """Seconds by sha256sum, by a full verify, and by one of an unchanged folder."""

    def run_sha256sum() -> None:
        for name in names:
            subprocess.run(["sha256sum", folder / name], check=True, capture_output=True)

    by_sha256sum, by_verify = best_of_three(run_sha256sum, lambda: verify(folder, full=True))
    (unchanged,) = best_of_three(lambda: verify(folder))
    return by_sha256sum, by_verify, unchanged


def main() -> None:
    """Measure, and print the figures beside what they shall be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--serve")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        names = make_files(temporary / "source", options.gigabytes)
        by_curl, by_course, folder = measure_download(temporary / "source", names, temporary)
        by_sha256sum, by_verify, unchanged = measure_verify(folder, names)
    print(f"{options.gigabytes:g} GB in {SHARDS} files on {os.cpu_count()} cores")
    ratio = by_course / by_curl
    print(f"download: {by_course:.2f} s, curl {by_curl:.2f} s, ratio {ratio:.2f} (at most 1.6)")
    ratio = by_verify / by_sha256sum
    print(f"verify: {by_verify:.2f} s, sha256sum {by_sha256sum:.2f} s, ratio {ratio:.2f} (below 1)")
    print(f"verify of an unchanged folder: {unchanged:.3f} s")


if __name__ == "__main__":
    main()
