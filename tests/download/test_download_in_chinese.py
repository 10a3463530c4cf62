"""The download in Chinese: what the command and the bars say, and every refusal."""

import json
import os
import re
import shutil

import pytest
import requests
from chinese_text import check_chinese
from stage import MODEL_ID, SHARD
from test_explain import FAULTS, STOPPED

from helpers import EMBEDDED_MODEL
from helpers.download import command, download, locks, manifest, network, stored_file_list, verify
from helpers.download.adopt import require_model
from helpers.download.errors import DownloadError
from helpers.download.faults import of_status_number, one_sentence, unwrap
from helpers.download.pipeline import check
from helpers.download.place import locate
from helpers.download.progress import time_text
from helpers.download.transfer import TransferBar

LANGUAGES = ("en", "zh")


def run(*arguments) -> None:
    """The command, with what it prints."""
    command.main([str(argument) for argument in arguments])


# The command


@pytest.mark.parametrize("action", ["plan", "verify", "download"])
def test_what_the_command_says(local_hub, folder, in_both, tmp_path, action):
    english, chinese = in_both(run, action, MODEL_ID, "--cache-dir", tmp_path / "cache")
    free = re.compile(r"[\d.]+ [MGT]B\n$")  # on the disk: it may change in between
    check_chinese(free.sub("", english), free.sub("", chinese), str(folder))


def test_the_plan_of_what_is_not_here(local_hub, in_both, tmp_path):
    _english, chinese = in_both(run, "plan", MODEL_ID, "--cache-dir", tmp_path / "cache")
    lines = chinese.splitlines()
    assert lines[0] == "6 个文件，共 0.30 MB，本机已有 0.00 MB"
    assert lines[1] == "还要下载 0.30 MB，按 10 MB/s 需要 0.0 分钟"
    assert re.fullmatch(r"磁盘剩余空间 [\d.]+ GB", lines[2])


def test_a_changed_time_is_told(folder, in_both):
    def touched() -> None:
        os.utime(folder / SHARD)
        verify(folder)

    english, chinese = in_both(touched)
    check_chinese(english, chinese)
    assert "计算了 1 个文件的哈希" in chinese


def test_help(in_both):
    english, chinese = in_both(run, "--help")
    check_chinese(english, chinese, " ".join(["plan", "download", "verify"]))
    assert chinese.startswith("用法：python -m helpers.download [-h]")


def test_the_embedded_model(in_both):
    check_chinese(*in_both(run, "verify", "embedded"), str(EMBEDDED_MODEL))


WRONG_ARGUMENTS = [
    [],
    ["fetch"],
    ["plan", MODEL_ID, "--speed", "fast"],
    ["plan", MODEL_ID, "--cache-dir"],
    ["plan", MODEL_ID, "another"],
    ["verify", MODEL_ID, "--re"],
    ["verify", MODEL_ID, "--full=yes"],
    ["plan", "reel"],
    ["plan", "no such model at all"],
    ["download", "./nothing"],
    ["download", "https://example.com/x"],
    ["verify", "somebody/never-downloaded"],
    ["plan", MODEL_ID, "--revision", "../x"],
    ["plan", MODEL_ID, "--speed", "0"],
    ["plan", "somebody/unknown"],
    ["plan", MODEL_ID, "--revision", "v9"],
]


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS, ids=" ".join)
def test_what_the_command_refuses(local_hub, in_both, arguments):
    check_chinese(*in_both(run, *arguments), *arguments, "plan, download, verify")


# Faults of the disk, the connection and the hub


@pytest.mark.parametrize("error", [fault[0] for fault in FAULTS], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_every_fault(in_both, monkeypatch, error, proxy):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.upper(), proxy)
    quoted = []  # the words of the libraries
    for inner in unwrap(error):
        quoted += [" ".join(str(inner).split()), str(getattr(inner, "strerror", ""))]
        quoted += re.findall("certificate verify failed: (.*)", str(inner))

    def fail() -> None:
        with one_sentence(STOPPED):
            raise error

    english, chinese = in_both(fail)
    if english != str(error):  # a fault of the program itself stays what it is
        check_chinese(english, chinese, *sorted(filter(None, quoted), key=len, reverse=True))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 408, 410, 429, 451, 500, 503, 511])
def test_every_answer_of_the_hub(in_both, status):
    def words() -> str:
        fault = of_status_number(status)
        return f"{fault.cause}\n{fault.cure.in_python}\n{fault.cure.with_flags}"

    check_chinese(*in_both(words))


ADDRESSES = ["http://no-such-host.invalid", "http://127.0.0.1:9", "http://127.0.0.1:port"]


@pytest.mark.parametrize("variable", ["MODELSCOPE_ENDPOINT", "http_proxy"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_connection(in_both, monkeypatch, variable, address):
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://hub.example")
    monkeypatch.setenv(variable, address)
    monkeypatch.setattr(
        requests.utils, "get_environ_proxies", lambda url: {"http": os.environ.get("http_proxy")}
    )
    check_chinese(*in_both(network.connect))


def test_no_answer_in_time(in_both):
    for variable in ("MODELSCOPE_ENDPOINT", "http_proxy"):
        stop = network.Address("http", "hub.example", 80, variable)
        for error in (None, OSError(101, "Network is unreachable"), ConnectionRefusedError()):
            check_chinese(*in_both(lambda stop=stop, error=error: str(network.no_connection(stop, error))))


def test_the_copy_on_disk_is_used_without_network(folder, in_both, monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    english, chinese = in_both(download, MODEL_ID, cache_dir=tmp_path / "cache")
    check_chinese(english, chinese)
    assert "。改用磁盘上的副本。" in chinese


# Lists, files and folders


@pytest.mark.parametrize(
    "change",
    [
        {"Path": "../x"},
        {"Size": -1},
        {"Path": "docs"},
        {"Path": "config.json"},
        {"Path": None},
    ],
)
def test_lists_that_are_refused(local_hub, in_both, tmp_path, monkeypatch, change):
    entries = local_hub.file_list()
    entries.append({"Path": "more", "Size": 1, "Sha256": "0" * 64} | change)
    monkeypatch.setattr(local_hub, "file_list", lambda: entries)
    check_chinese(*in_both(run, "plan", MODEL_ID, "--cache-dir", tmp_path / "cache"))


def test_too_small_a_disk(local_hub, in_both, tmp_path, monkeypatch):
    small = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    english, chinese = in_both(run, "plan", MODEL_ID, "--cache-dir", tmp_path / "cache")
    check_chinese(english, chinese)
    assert chinese == "还要下载 0.30 MB，磁盘只剩 0.20 MB：加上 --cache-dir /another/disk。\n"


@pytest.mark.parametrize("change", ["missing", "byte", "header", "index"])
def test_a_damaged_file(folder, in_both, change):
    path = folder / SHARD
    content = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "byte":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        known = manifest.read(folder)
        if change == "header":
            path.write_bytes(b"\xff" * len(content))
        else:
            index = folder / "model.safetensors.index.json"
            index.write_text(json.dumps({"weight_map": {"no.such.tensor": SHARD}}))
        check_chinese(*in_both(check, folder, known.files))
    check_chinese(*in_both(verify, folder))


def test_folders_from_elsewhere(local_hub, source, in_both, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(source, mine)
    check_chinese(*in_both(verify, mine))  # no tokenizer
    (mine / "tokenizer.json").write_text("{}")

    def adopted(model_id: str | None) -> None:
        (mine / manifest.NAME).unlink(missing_ok=True)
        verify(mine, model_id=model_id)

    for model_id in (MODEL_ID, None, "somebody/unknown"):
        check_chinese(*in_both(adopted, model_id))
    (mine / manifest.NAME).unlink()
    (mine / SHARD).unlink()
    check_chinese(*in_both(verify, mine, model_id=MODEL_ID))
    check_chinese(*in_both(verify, mine))
    check_chinese(*in_both(verify, tmp_path / "nowhere"))
    check_chinese(*in_both(require_model, mine, ["config.json", "pytorch_model.bin"]))
    check_chinese(*in_both(locate, str(mine), "master"))
    check_chinese(*in_both(run, "plan", mine))


def test_a_repair_is_told(folder, in_both):
    def repaired() -> None:
        (folder / SHARD).write_bytes(b"")
        verify(folder, repair=True)

    english, chinese = in_both(repaired)
    check_chinese(english, chinese)
    assert f"有误，重新下载：{SHARD}" in chinese


def test_the_advice_in_a_terminal_names_flags(folder, in_both, monkeypatch):
    (folder / SHARD).unlink()
    check_chinese(*in_both(run, "verify", folder))
    for language in LANGUAGES:
        monkeypatch.setenv("COURSE_LANG", language)
        with pytest.raises(DownloadError) as error:
            verify(folder)
        assert "repair=True" in str(error.value)
        assert "--repair" in error.value.in_terminal


# The bars


def test_the_bar_says_why_no_byte_comes(local_hub, in_both, tmp_path, monkeypatch):
    place = locate(MODEL_ID, "master", tmp_path / "cache")
    bar = TransferBar(place, [manifest.ModelFile(SHARD, 100, "0" * 64)])
    check_chinese(*in_both(bar.explanation, 5))
    bar.resuming.add(SHARD)
    check_chinese(*in_both(bar.explanation, 5))
    bar.resuming.clear()
    holder = locks.Holder(123, "python -m helpers.download", 7200)
    monkeypatch.setattr("helpers.download.transfer.other_holder", lambda place, files: holder)
    english, chinese = in_both(bar.explanation, 5)
    check_chinese(english, chinese)
    assert chinese == "正在等待进程 123（python -m helpers.download，已运行 2 小时）"


@pytest.mark.parametrize("seconds", [1, 130, 7200])
def test_times(in_both, seconds):
    check_chinese(*in_both(time_text, seconds))


def test_who_holds_a_lock(in_both, tmp_path):
    holders = [
        None,
        locks.Holder(123, "python -m ipykernel_launcher -f x.json", 7200),
        locks.Holder(os.getpid(), "python", 1),
        locks.Holder(123, "python -m helpers.download", 90),
    ]
    for holder in holders:
        check_chinese(*in_both(locks.describe, holder, tmp_path / "a.lock"))


# What is shown in notebook 03


def test_the_stored_list_speaks_about_itself(in_both):
    check_chinese(*in_both(lambda: f"{stored_file_list().complete}\n{stored_file_list().compared}"))
