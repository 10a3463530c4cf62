"""The download without faults: what it says, what it writes and what it checks."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from stage import MODEL_ID, SHARD

from helpers import REAL_MODEL_ID, CourseError, settings
from helpers.download import (
    DownloadPlan,
    compare,
    download,
    manifest,
    pipeline,
    plan_download,
    transfer,
    verify,
)
from helpers.download.local_hub import LocalHub
from helpers.download.place import cache_around, locate
from helpers.download.transfer import TransferBar

# The plan


def test_plan_says_what_a_download_would_do(local_hub, tmp_path):
    plan = plan_download(MODEL_ID, cache_dir=tmp_path / "cache", speed=5)
    assert (len(plan.files), plan.total, plan.remaining) == (6, 300_515, 300_515)
    assert "6 files, 0.30 MB, here already 0.00 MB" in str(plan)
    assert "at 5 MB/s" in str(plan)
    assert plan.free > 0
    assert not (tmp_path / "cache").exists()
    download(MODEL_ID, cache_dir=tmp_path / "cache")
    assert plan_download(MODEL_ID, cache_dir=tmp_path / "cache").remaining == 0


def test_minutes_of_the_real_size():
    plan = DownloadPlan([], 28_631_568_384, 28_631_568_384, 50 * 10**9, 10)
    assert "to download 28.63 GB, 47.7 minutes at 10 MB/s" in str(plan)


def test_too_small_a_disk_is_refused_with_the_figures(local_hub, tmp_path, monkeypatch):
    small = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    with pytest.raises(CourseError, match=r"0\.30 MB are to come and the disk has 0\.20 MB free"):
        plan_download(MODEL_ID, cache_dir=tmp_path / "cache")
    data_disk = tmp_path / "data"
    data_disk.mkdir()
    monkeypatch.setattr(settings, "DATA_DISK", data_disk)
    monkeypatch.setattr(transfer, "DATA_DISK", data_disk)
    with pytest.raises(CourseError, match=f"pass cache_dir='{data_disk}'"):
        download(MODEL_ID, cache_dir=tmp_path / "cache")


# Where the model goes


def test_the_client_and_the_course_agree_on_the_folder(folder, local_hub, tmp_path):
    from modelscope import snapshot_download  # takes 3 seconds to import

    cache = str(tmp_path / "cache")
    assert Path(snapshot_download(MODEL_ID, cache_dir=cache, local_files_only=True)) == folder
    elsewhere = Path(snapshot_download(MODEL_ID, cache_dir=str(tmp_path / "other")))
    assert elsewhere.name == folder.name == "master"


LAYOUTS = [
    "somebody/small-model.v1",
    "somebody/small-model___v1",
    "models/somebody/small-model.v1",
    "models/somebody/small-model___v1",
    "hub/somebody/small-model.v1",
    "hub/somebody/small-model___v1",
    "hub/models/somebody/small-model___v1",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_an_older_client_is_reused(local_hub, source, tmp_path, layout):
    from modelscope import snapshot_download  # takes 3 seconds to import

    model_id = "somebody/small-model.v1"
    local_hub.model_id = model_id
    cache = tmp_path / "cache"
    old = cache / layout
    shutil.copytree(source, old)
    assert download(model_id, cache_dir=cache) == old
    assert not [request for request in local_hub.seen if request.kind == "file"]
    assert Path(snapshot_download(model_id, cache_dir=str(cache), local_files_only=True)) == old
    assert cache_around(old, model_id) == cache


def test_the_cache_around_a_folder(folder, tmp_path):
    assert cache_around(folder, MODEL_ID) == tmp_path / "cache"
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(folder, moved)
    assert cache_around(moved, MODEL_ID) == tmp_path / "elsewhere"


def test_a_place_is_found_without_writing(local_hub, tmp_path):
    place = locate(MODEL_ID, "master", tmp_path / "cache")
    assert place.folder.is_relative_to(place.cache)
    assert not place.cache.exists()


# The manifest and the check


def test_manifest_holds_every_file(folder, source):
    known = manifest.read(folder)
    assert (known.model_id, known.revision) == (MODEL_ID, "master")
    for file in known.files:
        assert file.size_in(folder) == file.size == (source / file.path).stat().st_size
        assert file.mtime_ns_in(folder) == file.mtime_ns
    with pytest.raises(CourseError, match="unsafe path"):
        manifest.safe_file(folder, "../x", 1, "0" * 64)


def test_a_damaged_manifest_counts_as_none(folder):
    (folder / manifest.NAME).write_text('{"model_id": "x", "files": [')
    assert manifest.read(folder) is None


def test_verify_hashes_only_what_changed(folder, capsys):
    assert verify(folder) == folder
    assert "hashed" not in capsys.readouterr().out
    os.utime(folder / SHARD)
    verify(folder)
    assert "1 hashed now" in capsys.readouterr().out
    verify(folder)
    assert "hashed" not in capsys.readouterr().out
    verify(folder, full=True)
    assert "6 hashed now" in capsys.readouterr().out


def test_verify_of_a_moved_folder(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert verify(tmp_path / "elsewhere") == tmp_path / "elsewhere"


def damage(path: Path, change: str) -> None:
    """Let the file be missing, or short by a byte, or wrong in one."""
    content = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "short":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("change", ["missing", "short", "byte"])
def test_verify_names_the_wrong_file(folder, change):
    damage(folder / SHARD, change)
    with pytest.raises(CourseError, match=f"1 of 6 files wrong, {SHARD}") as error:
        verify(folder)
    assert "\n" not in str(error.value)


def files_below(folder: Path) -> list[Path]:
    """The files in a folder, at any depth; the client makes empty folders wherever it runs."""
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("again", ["verify", "download"])
@pytest.mark.parametrize("change", ["missing", "short", "byte"])
def test_a_repair_stays_in_the_cache_of_the_download(local_hub, folder, tmp_path, change, again):
    damage(folder / SHARD, change)
    locks = set((tmp_path / "cache" / ".lock").iterdir())
    local_hub.seen.clear()
    if again == "verify":
        verify(folder, repair=True)
    else:
        download(MODEL_ID, cache_dir=tmp_path / "cache")
    assert [request.path for request in local_hub.seen if request.kind == "file"] == [SHARD]
    assert verify(folder, full=True) == folder
    assert set((tmp_path / "cache" / ".lock").iterdir()) == locks  # the same lock as the first time
    assert not files_below(tmp_path / "home" / ".cache")  # where the default cache would be


def test_a_repair_of_a_moved_folder_writes_beside_it_and_nowhere_else(folder, tmp_path):
    moved = tmp_path / "elsewhere" / "model"
    shutil.copytree(folder, moved)
    damage(moved / SHARD, "byte")
    verify(moved, repair=True)
    assert verify(moved, full=True) == moved
    assert not files_below(tmp_path / "home" / ".cache")


def test_headers_are_held_against_files_and_index(folder):
    names = [file.path for file in manifest.read(folder).files]
    assert compare.wrong_tensors(folder, names) == {}
    lacking = [name for name in names if name != SHARD]
    assert compare.wrong_tensors(folder, lacking) == {SHARD: compare.LACKS_TENSORS}
    with (folder / SHARD).open("ab") as file:
        file.write(b"more")
    assert compare.wrong_tensors(folder, names)[SHARD] == compare.OTHER_LENGTH
    (folder / SHARD).write_bytes(b"\xff" * 20)
    assert compare.wrong_tensors(folder, names)[SHARD] == compare.UNREADABLE


# The record


def test_no_trace_of_the_real_model(folder, tmp_path):
    assert not (tmp_path / "record").exists()
    with pytest.raises(ValueError, match="must not be called"):
        LocalHub(folder, REAL_MODEL_ID)


def stop(*arguments) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def test_a_new_download_of_the_real_model_takes_its_record_back_first(local_hub, tmp_path, monkeypatch):
    local_hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a test may rename it
    cache = tmp_path / "cache"
    record = tmp_path / "record" / "model.json"
    download(REAL_MODEL_ID, cache_dir=cache)
    assert json.loads(record.read_text())["model_id"] == REAL_MODEL_ID
    (local_hub.folder / "config.json").write_text("{}")
    monkeypatch.setattr(pipeline, "transfer", stop)
    with pytest.raises(KeyboardInterrupt):
        download(REAL_MODEL_ID, cache_dir=cache)
    assert not record.exists()


@pytest.mark.parametrize("where", ["in the way", "full"])
def test_a_record_that_cannot_be_written_is_one_sentence(local_hub, tmp_path, monkeypatch, capsys, where):
    local_hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a test may rename it
    if where == "in the way":
        (tmp_path / "record").write_text("a file where the folder of the record would be")
    else:
        monkeypatch.setattr(manifest, "write_json", full_disk(manifest.write_json, "model.json"))
    with pytest.raises(CourseError) as error:
        download(REAL_MODEL_ID, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)
    if where == "full":
        assert "The model is complete, but" in str(error.value)
        assert "the disk is full" in str(error.value)
        assert "set COURSE_MODEL=" in str(error.value)
        folder = locate(REAL_MODEL_ID, "master", tmp_path / "cache").folder
        assert manifest.read(folder).model_id == REAL_MODEL_ID


def full_disk(write, name):
    """The same function, on a machine whose disk is full when the file of this name is written."""

    def written(path, content):
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    return written


def test_a_manifest_that_cannot_be_written_is_one_sentence(local_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "write_json", full_disk(manifest.write_json, manifest.NAME))
    with pytest.raises(CourseError, match="All files are here, but the manifest cannot be written"):
        download(MODEL_ID, cache_dir=tmp_path / "cache")


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "record.json"
    manifest.write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        manifest.write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


# One model, one folder, whatever the case of its letters


@pytest.mark.parametrize("again", ["Somebody/Small-Model", "SOMEBODY/SMALL-MODEL", "somebody/Small-model"])
def test_ids_compare_without_case(local_hub, folder, tmp_path, again):
    local_hub.seen.clear()
    assert download(again, cache_dir=tmp_path / "cache") == folder
    assert plan_download(again, cache_dir=tmp_path / "cache").remaining == 0
    assert not [request for request in local_hub.seen if request.kind == "file"]
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 1
    assert manifest.read(folder).model_id == MODEL_ID


REAL_NAMES = ["real", "Qwen/Qwen1.5-MoE-A2.7B-Chat", "Qwen1.5-MoE-A2.7B-Chat", "qwen/qwen1.5-moe-a2.7b-chat"]


@pytest.mark.parametrize("name", REAL_NAMES)
@pytest.mark.parametrize("spelling", ["Qwen/Qwen1.5-MoE-A2.7B-Chat", REAL_MODEL_ID])
@pytest.mark.parametrize("layout", ["models/{owner}--{name}/snapshots/master", "{owner}/{masked}"])
def test_the_real_model_is_found_in_either_spelling(local_hub, source, tmp_path, name, spelling, layout):
    local_hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a test may rename it
    owner, bare = spelling.split("/")
    there = tmp_path / "cache" / layout.format(owner=owner, name=bare, masked=bare.replace(".", "___"))
    shutil.copytree(source, there)
    assert download(name, cache_dir=tmp_path / "cache") == there
    assert not [request for request in local_hub.seen if request.kind == "file"]
    record = json.loads((tmp_path / "record" / "model.json").read_text())
    assert (record["model_id"], record["folder"]) == (REAL_MODEL_ID, str(there))
    assert manifest.read(there).model_id == REAL_MODEL_ID


def test_a_new_revision_stays_in_the_folder_of_the_old_spelling(local_hub, folder, tmp_path):
    local_hub.revision = "v2"
    new = download("Somebody/Small-Model", "v2", cache_dir=tmp_path / "cache")
    assert new.parent == folder.parent


# What is here already is hashed under a bar, and only once


def test_a_download_hashes_what_is_here_itself(local_hub, source, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    there = locate(MODEL_ID, "master", cache).folder
    there.mkdir(parents=True)
    here = ["model-00001-of-00003.safetensors", SHARD]
    for name in here:
        shutil.copyfile(source / name, there / name)
    bars = []
    handed_over = []
    draw = compare.byte_bar
    call = transfer.call_client
    monkeypatch.setattr(
        compare, "byte_bar", lambda *given, **named: bars.append((given, named)) or draw(*given, **named)
    )
    monkeypatch.setattr(transfer, "call_client", lambda *given: handed_over.extend(given[1]) or call(*given))
    download(MODEL_ID, cache_dir=cache)
    size = sum((source / name).stat().st_size for name in here)
    assert bars[0] == ((size,), {"what": "sha256 of 2 files on this disk"})
    assert not {file.path for file in handed_over} & set(here)


# The bar


def test_bar_counts_every_byte_once(folder, tmp_path):
    files = manifest.read(folder).files
    size = next(file.size for file in files if file.path == SHARD)
    bar = TransferBar(locate(MODEL_ID, "master", tmp_path / "cache"), files)
    assert bar.here == bar.total == 300_515
    callback = bar.start_file(SHARD, size)  # the client found it wrong and starts again
    assert bar.here == bar.total - size
    callback.update(size - 10)
    callback.update(-(size - 10))
    callback.update(size)
    assert bar.here == bar.total
    callback = bar.start_file(SHARD, size)  # its hash did not match: the client begins anew
    callback.update(size)
    assert bar.here == bar.total


def test_the_bar_is_full_at_the_end(folder, tmp_path):
    files = manifest.read(folder).files
    size = next(file.size for file in files if file.path == SHARD)
    bar = TransferBar(locate(MODEL_ID, "master", tmp_path / "cache"), files)
    bar.start -= 10  # seconds: from here on it is drawn
    with bar:
        callback = bar.start_file(SHARD, size)
        bar.show()
        assert bar.bar.n == bar.total - size
        callback.update(size)  # after the last look of the thread that draws
    assert bar.bar.n == bar.total
