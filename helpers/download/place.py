"""Where a model is, or will be, on this disk."""

import re
from dataclasses import dataclass
from pathlib import Path

from modelscope_hub import CacheNotFound, HubApi, HubConfig

from helpers import CourseError
from helpers.settings import model_cache


@dataclass(frozen=True)
class Place:
    """A model on this disk: its id and revision, the cache of all models, and its own folder in there."""

    model_id: str
    revision: str
    cache: Path
    folder: Path


def locate(model_id: str, revision: str, cache_dir: str | Path | None = None) -> Place:
    """Find the model's folder, there or not; CourseError if the id or the revision is none.

    `cache_dir`: the folder of all models, else `settings.model_cache()`.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model_id) or not re.fullmatch(r"\w[\w.-]*", revision):
        raise CourseError(f"A model is named owner/name, a revision like master: {model_id!r}, {revision!r}?")
    cache = model_cache(cache_dir)
    folder = older_folder(model_id, cache) or present_folder(model_id, revision, cache)
    return Place(model_id, revision, cache, folder)


def present_folder(model_id: str, revision: str, cache: Path) -> Path:
    """The folder that the installed client uses; asking it keeps the course right when the layout changes."""
    try:
        where = {"revision": revision, "cache_dir": str(cache), "local_files_only": True}
        return Path(HubApi(HubConfig()).download_repo(model_id, "model", **where))
    except CacheNotFound as not_there_yet:
        return Path(not_there_yet.cache_dir)


def older_folder(model_id: str, cache: Path) -> Path | None:
    """A folder of older clients' layouts, which `snapshot_download` still reuses; None if there is none.

    These folders have no revision in their name. The list and its order are those of modelscope 1.40.2
    (`find_reusable_legacy_repo_dir`), whose import would take 3 seconds.
    """
    owner, name = model_id.split("/")
    masked = name.replace(".", "___")
    if is_filled(cache / "models" / f"{owner}--{name}") or is_filled(cache / "models" / owner / masked):
        return None  # the client finds these by itself
    for folder in (
        cache / owner / name,
        cache / owner / masked,
        cache / "hub" / owner / name,
        cache / "hub" / owner / masked,
        cache / "models" / owner / name,
    ):
        if is_filled(folder):
            return folder
    return None


def is_filled(folder: Path) -> bool:
    """Whether there is such a folder with anything in it."""
    return folder.is_dir() and any(folder.iterdir())


def cache_around(folder: Path, model_id: str, revision: str) -> Path:
    """The cache that a model's folder belongs to; the folder above it if it was moved out of one."""
    folder = folder.resolve()
    for cache in reversed(folder.parents[:4]):  # from outside: `cache/models` would fit some layouts as well
        if locate(model_id, revision, cache).folder == folder:
            return cache
    return folder.parent
