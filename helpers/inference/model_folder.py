"""What a model folder has to hold, checked before anything is loaded: names, and the headers of the weights.

The sizes in a safetensors file's own header say whether the file is whole, so the index need not: tools that
save models write a `total_size` into it that may be missing or wrong, and transformers never reads it.
"""

import json
import os
from pathlib import Path

from helpers import EMBEDDED_MODEL, CourseError
from helpers.download.compare import INDEX, read_header
from helpers.environment.model_folder import missing_tokenizer
from helpers.language import listed, say
from helpers.settings import read_record

ONE_FILE = "model.safetensors"  # transformers takes it first, also where there is an index
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
OTHER_WEIGHTS = (".gguf", ".safetensors", ".h5", ".msgpack", ".onnx")
LFS_POINTER = b"version https://git-lfs"


def folder_of(model_dir: str | Path) -> Path:
    """The path of a model folder; CourseError for what is no path, such as None."""
    if not isinstance(model_dir, str | os.PathLike):
        raise CourseError(
            say("model_dir is {value!r}: give the folder of a model, as text or as a Path.", value=model_dir)
        )
    return Path(model_dir)


def weights_bytes(model_dir: Path) -> int:
    """Bytes of the safetensors files of a complete model folder.

    CourseError, with what to do, when a file is missing, cut off or damaged, or is of another kind.
    """
    if not model_dir.is_dir():
        raise CourseError(
            say("There is no model folder {model}: {cure}.", model=model_dir.name, cure=advice(model_dir))
        )
    if not (model_dir / "config.json").is_file():
        raise incomplete(model_dir, say("no {files}", files="config.json"))
    shards = read_shards(model_dir)
    missing = [name for name in shards if not (model_dir / name).is_file()]
    missing += missing_tokenizer(model_dir)
    if missing:
        raise incomplete(model_dir, say("no {files}", files=listed(missing[:3])))
    for name, tensors in shards.items():
        check_shard(model_dir / name, tensors)
    return sum((model_dir / name).stat().st_size for name in shards)


def read_shards(model_dir: Path) -> dict[str, set[str]]:
    """The safetensors files of a folder, and the tensors that its index promises in each of them."""
    if (model_dir / ONE_FILE).is_file():
        return {ONE_FILE: set()}
    if not (model_dir / INDEX).is_file():
        raise no_safetensors(model_dir)
    shards: dict[str, set[str]] = {}
    try:
        content = json.loads((model_dir / INDEX).read_text(encoding="utf-8"))
        for tensor, shard in content["weight_map"].items():
            shards.setdefault(str(shard), set()).add(tensor)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise damaged(model_dir, INDEX) from None
    if not shards:
        raise damaged(model_dir, INDEX)
    if not isinstance(content.get("metadata"), dict):
        raise CourseError(
            say(
                '{index} of the model folder {model} has no "metadata", without which transformers does not '
                'load it: add "metadata": {{}} to the file, beside "weight_map".',
                index=INDEX,
                model=model_dir.name,
            )
        )
    return shards


def no_safetensors(model_dir: Path) -> CourseError:
    """The sentence for a folder without the weights that transformers looks for: what it holds instead."""
    names = sorted(path.name for path in model_dir.iterdir() if path.is_file())
    pickles = [name for name in names if name.endswith(PICKLES)]
    others = [name for name in names if name.endswith(OTHER_WEIGHTS)]
    if others and all(name.endswith(".safetensors") for name in others):
        what = say("{count} safetensors files, but no {index}", count=len(others), index=INDEX)
        return incomplete(model_dir, what)
    if others:
        return CourseError(
            say(
                "{model} holds {file}, but no safetensors files: take the version of the model that has "
                "them.",
                model=model_dir.name,
                file=others[0],
            )
        )
    if pickles:
        return CourseError(
            say(
                "The weights of {model} are only there as {file}, a pickle, which can run any program when "
                "it is opened: take the version of the model that has safetensors files.",
                model=model_dir.name,
                file=pickles[0],
            )
        )
    return incomplete(model_dir, say("no {file} and no {index}", file=ONE_FILE, index=INDEX))


def check_shard(path: Path, tensors: set[str]) -> None:
    """Compare a safetensors file with its own header: it names the tensors, and says how long the file is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise CourseError(
            say(
                "{file} of {model} is only a pointer of Git LFS, not the weights: run git lfs pull in that "
                "folder.",
                file=path.name,
                model=path.parent.name,
            )
        )
    try:
        entries, whole = read_header(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise damaged(path.parent, say("{file} ({size:,} bytes)", file=path.name, size=size)) from None
    if size < whole:
        what = say("{file} has {size:,} of {whole:,} bytes", file=path.name, size=size, whole=whole)
        raise incomplete(path.parent, what)
    if size > whole or not tensors <= set(entries):
        raise damaged(path.parent, path.name)


def incomplete(model_dir: Path, what: str) -> CourseError:
    """The sentence for a folder in which something is missing."""
    return CourseError(
        say(
            "The model folder {model} is incomplete ({what}): {cure}.",
            model=model_dir.name,
            what=what,
            cure=advice(model_dir),
        )
    )


def damaged(model_dir: Path, file: str) -> CourseError:
    """The sentence for a file that is there, but is not what it should be."""
    return CourseError(
        say(
            "{file} of the model folder {model} is damaged: {cure}.",
            file=file,
            model=model_dir.name,
            cure=advice(model_dir),
        )
    )


def advice(model_dir: Path) -> str:
    """How to get a whole folder: it depends on who made this one."""
    if same_folder(model_dir, EMBEDDED_MODEL):
        return say("restore it from the course, of which it is part")
    try:
        record = read_record()
    except (OSError, ValueError):
        record = None
    if record and same_folder(model_dir, Path(record["folder"])):
        return say("run notebook 03 again")
    return say("copy or download it again from where it came from")


def same_folder(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same folder, which need not exist."""
    return one.expanduser().resolve() == other.expanduser().resolve()
