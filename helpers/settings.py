"""What a learner sets from outside, and where the course keeps things: each fact is read in this place only.

Standard library only: the environment check needs these facts where nothing is installed yet. Every function
reads the environment when it is called, so a variable that a cell sets counts from the next call on.
"""

import json
import os
from pathlib import Path

#: AutoDL's data disk: large, fast, kept when the machine is switched off, but not part of a saved image.
DATA_DISK = Path("/root/autodl-tmp")


def wanted_model() -> str:
    """What `COURSE_MODEL` asks for: a model folder, `embedded`, or "" for "choose yourself"."""
    return os.environ.get("COURSE_MODEL", "").strip()


def has_data_disk() -> bool:
    """Whether this machine has AutoDL's data disk."""
    return os.path.isdir(DATA_DISK)  # unlike Path.is_dir, no error where a user may not look


def model_cache(cache_dir: str | Path | None = None) -> Path:
    """Folder under which models are downloaded, absolute.

    `cache_dir`, else `MODELSCOPE_CACHE`, else AutoDL's data disk (the system disk is too small), else the
    folder that ModelScope's client uses by itself.
    """
    folder = cache_dir or os.environ.get("MODELSCOPE_CACHE")
    if not folder and has_data_disk():
        folder = DATA_DISK
    if not folder:
        folder = "~/.cache/modelscope"
    return Path(os.path.realpath(expanded(folder)))


def record_file() -> Path:
    """File in which a finished download of the real model is recorded; `COURSE_CACHE` moves it."""
    folder = os.environ.get("COURSE_CACHE", "").strip()
    if not folder:
        folder = "~/.cache/moe-course"
    return expanded(folder) / "model.json"


def read_record() -> dict[str, str] | None:
    """The recorded download: `model_id`, `revision` and `folder`. None if there is none.

    ValueError if the file is there but is no such record. Whether the folder still holds the model is for the
    caller to find out.
    """
    try:
        text = record_file().read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    record = json.loads(text)
    keys = ("model_id", "revision", "folder")
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in keys):
        raise ValueError(f"{record_file().name} is no record of a download")
    return record


def wanted_language() -> str:
    """What `COURSE_LANG` asks for, as it was written; "" if nobody asks."""
    return os.environ.get("COURSE_LANG", "").strip()


def expanded(folder: str | Path) -> Path:
    """The path with `~` replaced by the home of a user. Where there is no such user it stays, as in a shell.

    Unlike Path.expanduser, no error: what is wrong with the path is told by whoever looks for the folder.
    """
    return Path(os.path.expanduser(folder))
