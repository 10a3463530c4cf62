"""Programs and files that stand in for those of another machine."""

import json
import sys

#: A healthy card as nvidia-smi describes it, field by field.
CARD = {
    "driver_version": "580.82.07",
    "memory.total": "24576",
    "memory.free": "24260",
    "compute_cap": "8.6",
    "mig.mode.current": "[N/A]",
    "uuid": "GPU-11111111-aaaa",
    "name": "NVIDIA GeForce RTX 3090",
}

FAKE = """#!{python}
import json, sys
answers = json.loads({answers!r})
for argument in sys.argv[1:]:
    if argument.startswith("--query-gpu="):
        fields = argument.partition("=")[2].split(",")
        for row in answers["rows"]:
            print(", ".join(row[field] for field in fields))
        if answers["says"]:
            print(answers["says"])
    if argument.startswith("--query-compute-apps=") and answers["apps"]:
        print(answers["apps"])
    if argument == "-L":
        print(answers["slices"])
sys.exit(answers["code"])
"""


def fake_nvidia_smi(folder, script):
    """An nvidia-smi that runs a shell script."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def fake_gpus(folder, rows, says="", code=0, apps="", slices=""):
    """An nvidia-smi that lists `rows`, each a `CARD` with changes; it may also say something and fail."""
    answers = {"rows": rows, "says": says, "code": code, "apps": apps, "slices": slices}
    path = folder / "nvidia-smi"
    path.write_text(FAKE.format(python=sys.executable, answers=json.dumps(answers)))
    path.chmod(0o755)


def write_files(root, files):
    """Write texts below `root`, for example as a /proc of another machine: {"proc/meminfo": "..."}."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
