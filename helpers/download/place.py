"""Where a model is, or will be, on this disk."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from modelscope_hub import CacheNotFound, HubApi, HubConfig

from helpers import CourseError
from helpers.language import say
from helpers.model_names import canonical_id, read_id, resolve, same_model
from helpers.settings import model_cache

#: Below the cache, where the clients of all versions keep models.
SHELVES = ("models", "", "hub", "hub/models")


@dataclass(frozen=True)
class Place:
    """A model on this disk.

    model_id, revision: what the hub is asked for. cache: the folder of all models. folder: the model's own.
    spelling: the id as that folder spells it; a client that was asked for `Qwen/…` made another folder than
    one that was asked for `qwen/…`, and locks other files.
    """

    model_id: str
    revision: str
    cache: Path
    folder: Path
    spelling: str


def locate(model: str, revision: str, cache_dir: str | Path | None = None) -> Place:
    """Find the folder of a model, there or not; CourseError if the name or the revision is none.

    `model`: its id in any case, or one of the other names that `model_names.resolve` understands.
    `cache_dir`: the folder of all models, else `settings.model_cache()`.
    """
    model_id = resolve(model).model_id
    if model_id is None:
        raise CourseError(
            say(
                "{model} is a folder: to download, name a model as owner/name, to check it, use verify.",
                model=model,
            )
        )
    if not re.fullmatch(r"\w[\w.-]*", revision):
        raise CourseError(say("A revision is a word like master: {revision!r}?", revision=revision))
    cache = model_cache(cache_dir)
    places = []
    for spelling in spellings(model_id, cache):
        folder = older_folder(spelling, cache) or present_folder(spelling, revision, cache)
        places.append(Place(canonical_id(spelling), revision, cache, folder, spelling))
    for place in places:
        if is_filled(place.folder):
            return place
    return places[0]


def spellings(model_id: str, cache: Path) -> list[str]:
    """The id as folders of the cache spell it: first as it is, then those that differ from it in case.

    If the cache knows it in other spellings only, these alone: one model, one folder.
    """
    owner, name = model_id.split("/")
    found = set()
    for shelf in SHELVES:
        for folder in subfolders(cache / shelf):
            spelling = folder.name.replace("--", "/", 1)
            if same_model(spelling, model_id):
                found.add(spelling)
            if not same_model(folder.name, owner):
                continue
            for inner in subfolders(folder):
                inner_name = inner.name.replace("___", ".")  # older clients wrote dots so
                if same_model(inner_name, name):
                    found.add(f"{folder.name}/{inner_name}")
    if not found:
        return [model_id]
    return sorted(found, key=lambda spelling: (spelling != model_id, spelling))


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; none where there is nothing to see."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []


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
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def cache_around(folder: Path, model_id: str) -> Path:
    """The cache that a model's folder belongs to; the folder above it if it was moved out of one."""
    folder = folder.resolve()
    snapshots = folder.parent
    if snapshots.name == "snapshots" and snapshots.parent.parent.name == "models":
        return snapshots.parent.parent.parent
    owner = folder.parent
    if not same_model(f"{owner.name}/{folder.name.replace('___', '.')}", model_id):
        return folder.parent
    cache = owner.parent
    for shelf in ("models", "hub"):  # from the inside: hub/models/owner/name
        if cache.name == shelf:
            cache = cache.parent
    return cache


def id_of(folder: Path) -> tuple[str, str] | None:
    """Model and revision that the path of a folder spells; None if it spells none that is sure.

    Sure are the names of the course's own models, and folders that only a client makes:
    `models/owner--name/snapshots/revision`, and `models--owner--name` of the Hugging Face cache.
    """
    folder = folder.resolve()
    name = folder.name
    revision = "master"
    if folder.parent.name == "snapshots":
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
        if not re.fullmatch(r"[0-9a-f]{40}", folder.name):  # a commit of the other hub is none here
            revision = folder.name
    model_id = read_id(name)
    if model_id is None:
        return None
    return model_id, revision
