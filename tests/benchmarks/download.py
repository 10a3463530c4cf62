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

from helpers.download import manifest
from helpers.download import pipeline as hub
from helpers.download.local_hub import LocalHub

MODEL_ID = "somebody/large-model"
SHARDS = 8


class QuickHub(LocalHub):
    """Hashes its files once, so that neither download waits for it."""

    def listing(self):
        if not hasattr(self, "listed"):
            self.listed = super().listing()
        return self.listed


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
    """Run the hub in a process of its own until its input ends."""
    with QuickHub(folder, MODEL_ID) as server:
        server.listing()
        print(server.environment["MODELSCOPE_ENDPOINT"], flush=True)
        sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--serve")
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    with tempfile.TemporaryDirectory() as temporary:
        source, cache, copy = (Path(temporary) / name for name in ("source", "cache", "copy"))
        source.mkdir()
        block = os.urandom(10**6)
        for number in range(SHARDS):
            with (source / f"shard-{number}.bin").open("wb") as file:
                for _ in range(int(options.gigabytes * 1000 / SHARDS)):
                    file.write(block)
        command = [sys.executable, __file__, "--serve", str(source)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            url = server.stdout.readline().strip()
            os.environ.update(MODELSCOPE_ENDPOINT=url, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
            names = sorted(os.listdir(source))
            query = f"{url}/api/v1/models/{MODEL_ID}/repo?Revision=master&FilePath="
            curl = ["curl", "-sS"]
            for name in names:
                curl += ["-o", str(copy / name), query + name]

            def run_curl():
                shutil.rmtree(copy, ignore_errors=True)
                copy.mkdir()
                subprocess.run(curl, check=True)

            def run_download():
                shutil.rmtree(cache, ignore_errors=True)
                hub.download(MODEL_ID, cache_dir=cache)

            by_curl, by_hub = best_of_three(run_curl, run_download)
            folder = hub.download(MODEL_ID, cache_dir=cache)
            server.stdin.close()

        def run_sha256sum():
            for name in names:
                subprocess.run(["sha256sum", folder / name], check=True, capture_output=True)

        by_sha256sum, by_verify = best_of_three(run_sha256sum, lambda: hub.verify(folder, full=True))
        (unchanged,) = best_of_three(lambda: hub.verify(folder))
        assert manifest.read(folder) is not None
    print(f"{options.gigabytes:g} GB in {SHARDS} files on {os.cpu_count()} cores")
    print(f"download: {by_hub:.2f} s, curl {by_curl:.2f} s, ratio {by_hub / by_curl:.2f} (at most 1.6)")
    ratio = by_verify / by_sha256sum
    print(f"verify: {by_verify:.2f} s, sha256sum {by_sha256sum:.2f} s, ratio {ratio:.2f} (below 1)")
    print(f"verify of an unchanged folder: {unchanged:.3f} s")


if __name__ == "__main__":
    main()
