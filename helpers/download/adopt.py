"""A complete folder that this course did not download: make a manifest for it.

Best by the hub's own list, which proves every byte. Without network, or for a model that the hub does not
have, by hashing what is there: that proves only that nothing changes from now on.
"""

import json
from pathlib import Path

from helpers import CourseError
from helpers.download.compare import INDEX, hash_files, wrong_tensors
from helpers.download.errors import Advice, DownloadError, without_stop
from helpers.download.file_list import list_files
from helpers.download.manifest import Manifest, ModelFile
from helpers.download.place import id_of
from helpers.language import listed, say, to_say

TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "qwen.tiktoken")
UNSAFE_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt")


def adopt(folder: Path, model_id: str | None = None, repair: bool = False) -> Manifest:
    """What a folder without manifest must hold: by the hub's list, else by what is there and fits together.

    `model_id`: which model it is, where its path does not say so. `repair`: missing files will be fetched.
    Nothing is written. CourseError if the folder is not complete.
    """
    known = id_of(folder)
    if model_id is not None:
        known = (model_id, "master")
    if known is None:
        return by_hashing(folder, "", "", say("no model of the hub is named, and the path spells none"))
    try:
        files = list_files(known[0], known[1], folder)
    except CourseError as error:
        require_begun(folder)
        return by_hashing(folder, *known, without_stop(error))
    if not repair:
        require_whole(folder, files)
    print(
        say("No manifest is here: every file is now compared with the hub's list of {model}.", model=known[0])
    )
    return Manifest(known[0], known[1], files)


def require_begun(folder: Path) -> None:
    """Refuse a folder in which a download has been interrupted."""
    parts = sorted(folder.rglob("*.incomplete"))
    if parts or not any(folder.iterdir()):
        raise DownloadError(
            to_say("This folder was not downloaded to the end: {cure}."), way_to_fetch(folder)
        )


def require_whole(folder: Path, files: list[ModelFile]) -> None:
    """Refuse a folder that lacks files of the hub's list, before anything is hashed."""
    missing = [file.path for file in files if file.size_in(folder) == -1]
    if missing:
        raise DownloadError(
            to_say(
                "This folder was not downloaded to the end, {missing} of {all} files are missing, {path} "
                "first: {cure}."
            ),
            way_to_fetch(folder),
            missing=len(missing),
            all=len(files),
            path=missing[0],
        )


def way_to_fetch(folder: Path) -> Advice:
    """How the rest of a folder comes: a download would put a model from elsewhere into another folder."""
    if folder.resolve().parent.name == "snapshots":
        return Advice(say("run download, which fetches the rest"))
    return Advice(
        say("verify with repair=True, which fetches the rest"),
        say("verify with --repair, which fetches the rest"),
    )


def by_hashing(folder: Path, model_id: str, revision: str, why: str) -> Manifest:
    """A manifest of what is there, after a check that it is a model and complete in itself.

    `model_id` and `revision` are "" for a model that no hub is known to have; `why`: why its list is missing.
    """
    paths = files_of(folder)
    require_model(folder, paths)
    print(
        say(
            "Without the hub's list ({why}), all {all} files are hashed as they are: this proves only what "
            "is there, a byte that is wrong already is not found.",
            why=why,
            all=len(paths),
        )
    )
    hashes = hash_files(folder, paths)
    files = []
    for path in paths:
        target = folder / path
        files.append(ModelFile(path, target.stat().st_size, hashes[path], target.stat().st_mtime_ns))
    return Manifest(model_id, revision, files)


def files_of(folder: Path) -> list[str]:
    """Paths of the files of a model folder, without what tools keep for themselves in hidden places."""
    paths = []
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
        if file.is_file() and not hidden:
            paths.append(path.as_posix())
    return paths


def require_model(folder: Path, paths: list[str]) -> None:
    """CourseError unless these files are a model that the course can load: config, tokenizer, all weights."""
    weights = [path for path in paths if path.endswith(".safetensors")]
    others = [path for path in paths if path.endswith(UNSAFE_WEIGHTS)]
    if not weights and others:
        raise CourseError(
            say(
                "{folder} holds its weights as {file} only, a format that can run foreign code: take a "
                "version of the model with .safetensors files.",
                folder=folder.name,
                file=others[0],
            )
        )
    missing = []
    if "config.json" not in paths:
        missing.append("config.json")
    if not weights:
        missing.append(say("weights (.safetensors)"))
    if not set(TOKENIZERS) & set(paths):
        missing.append(say("a tokenizer"))
    missing += sorted(shards_of(folder, paths) - set(paths))
    if missing:
        raise CourseError(
            say(
                "{folder} is no complete model, it lacks {missing}: get these from where the folder comes "
                "from, or name another folder.",
                folder=folder.name,
                missing=listed(missing[:3]),
            )
        )
    wrong = wrong_tensors(folder, paths)
    if wrong:
        path = min(wrong)
        raise CourseError(
            say(
                "{wrong} of {all} files of {folder} are damaged, {what}: get them anew from where the folder "
                "comes from.",
                wrong=len(wrong),
                all=len(paths),
                folder=folder.name,
                what=say(wrong[path], path=path),
            )
        )


def shards_of(folder: Path, paths: list[str]) -> set[str]:
    """The shards that the index names; none without an index, or with one that cannot be read."""
    if INDEX not in paths:
        return set()
    try:
        return set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()
