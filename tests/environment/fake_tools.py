"""Programs and files that stand in for those of another machine."""


def fake_nvidia_smi(folder, script):
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def write_files(root, files):
    """Write texts below `root`, for example as a /proc of another machine: {"proc/meminfo": "..."}."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
