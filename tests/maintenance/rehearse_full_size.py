"""Rehearse the course's real path at full size, without a GPU and without network.

    python tests/maintenance/rehearse_full_size.py --quick     75 s on two quiet cores, 0.7 GB of disk
    python tests/maintenance/rehearse_full_size.py --full      3 minutes, 43 GB of disk, 18 GB of RAM
    python tests/maintenance/rehearse_full_size.py --small     seconds: tries this script, on 17 MB

Run it from the course folder. The model is a checkpoint of full size whose numbers are holes in the files
(`sparse_checkpoint`), served by the course's local hub, and every step is the command that a learner types:
forecast, refusals, plan, download with a kill -9 and a resume, verify, a flipped byte, repair, choose_model.
`--quick` lays all shards but the last into the cache beforehand, as holes. `--full` fetches all 28.6 GB,
loads all 14.3 billion parameters with RAM and disk, and lets the model write two tokens.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from sparse_checkpoint import CONFIG, disk_used, write_checkpoint

from helpers import GB, REAL_MODEL_ID, CourseError
from helpers.download import compare, plan_download
from helpers.download.local_hub import LocalHub
from helpers.download.progress import size_text

ROOT = Path(__file__).parents[2]
DISK_NEEDED = {
    "small": 0.1 * GB,
    "quick": 1 * GB,
    "full": 43 * GB,
}  # full: also what loading lays on the disk
SECONDS_A_SHARD = 5  # while the download waits for its kill -9
LONGEST = 3600  # seconds for one command; a net, most take a minute

#: The small size: the same class and layout with few and narrow layers, in eight shards.
SMALL = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "moe_intermediate_size": 88,
    "shared_expert_intermediate_size": 352,
    "num_hidden_layers": 4,
    "vocab_size": 1519,
}
SMALL_SHARD = 2_500_000  # bytes

LOAD = """
import sys, time
import torch
from transformers import AutoModelForCausalLM

folder, offload = sys.argv[1:]
start = time.monotonic()
model, report = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.bfloat16, device_map="auto", max_memory={"cpu": "14GiB"},
    offload_folder=offload, output_loading_info=True, use_safetensors=True,
)
places = sorted({str(place) for place in model.hf_device_map.values()})
missing = len(report["missing_keys"]) + len(report["unexpected_keys"]) + len(report["mismatched_keys"])
seconds = time.monotonic() - start
print(f"{model.num_parameters():,} parameters on {places} in {seconds:.0f} s, {missing} keys wrong")
start = time.monotonic()
ids = torch.tensor([[1, 2, 3]])
with torch.no_grad():
    answer = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, min_new_tokens=2, do_sample=False
    )
print(f"{answer.shape[1] - 3} new tokens in {time.monotonic() - start:.0f} s")
"""


class Rehearsal:
    """The stage: a hub with the sparse checkpoint, a cache, a record, and the learner's commands."""

    def __init__(self, folder: Path, size: str):
        self.folder = folder
        self.size = size
        self.source = folder / "source"
        self.cache = folder / "cache"
        self.start = time.monotonic()
        # Nothing of this machine's own settings, cache or record takes part.
        for name in ("MODELSCOPE_CACHE", "COURSE_MODEL"):
            os.environ.pop(name, None)
        os.environ |= {
            "COURSE_CACHE": str(folder / "record"),
            "CUDA_VISIBLE_DEVICES": "",
            "HOME": str(folder),
        }
        os.environ["PYTHONPATH"] = str(ROOT)

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"[{time.monotonic() - self.start:4.0f} s] {text}", flush=True)

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command of the course to its end; its output. It must end with this status."""
        result = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=LONGEST
        )
        text = result.stdout + result.stderr
        require(result.returncode == status, f"{arguments} ended with {result.returncode}:\n{text[-3000:]}")
        require("Traceback" not in text, text[-3000:])
        return text

    def course(self, *arguments: str, status: int = 0) -> str:
        """Run `python -m helpers.…`; the last line that it wrote is printed."""
        text = self.run("-m", *arguments, status=status)
        last = text.replace("\r", "\n").strip().splitlines()[-1]
        self.say(f"{' '.join(arguments[:3])}: {last.replace(str(self.folder), '…')[:150]}")
        return text


def require(right: bool, what: str) -> None:
    """Stop the rehearsal with the reason unless something is right."""
    if not right:
        raise SystemExit(f"The rehearsal failed: {what}")


def write_model(stage: Rehearsal, folder: Path) -> list[Path]:
    """Write the checkpoint of the rehearsal's size; returns its shards."""
    if stage.size != "small":
        return write_checkpoint(folder)
    config = json.loads(CONFIG.read_text()) | SMALL
    return write_checkpoint(folder, json.dumps(config), SMALL_SHARD)


def prepare(stage: Rehearsal) -> LocalHub:
    """Write the checkpoint, hash it once, and serve it under the real model's name."""
    shards = write_model(stage, stage.source)
    stage.total = sum(file.stat().st_size for file in stage.source.iterdir())
    stage.last = shards[-1]
    used = disk_used(stage.source) / 1e6
    stage.say(f"checkpoint: {size_text(stage.total)}, {len(shards)} shards, on the disk {used:.1f} MB")
    hub = LocalHub(stage.source)
    hub.model_id = REAL_MODEL_ID  # a stand-in may not be created with this name; a rehearsal may rename it
    for path, digest in compare.hash_files(stage.source, [shard.name for shard in shards]).items():
        state = (stage.source / path).stat()
        hub.hashes[stage.source / path, state.st_size, state.st_mtime_ns] = digest
    stage.say("hub: all shards hashed")
    return hub


def before_the_download(stage: Rehearsal) -> None:
    """The forecast, the check of this machine and the refusals, with the figures of the real model."""
    forecast = json.loads(stage.run("-m", "helpers.vram", "real", "--json"))
    weights = sum(row["weights"] for row in forecast["gpus"])
    require(weights == 28_631_568_384, f"the forecast counts {weights:,} bytes of weights")
    stage.say(f"forecast: {weights:,} bytes of weights on two cards of 24 GiB")
    text = stage.course("helpers.download", "verify", "real", "--cache-dir", str(stage.cache), status=1)
    require("run download" in text, text)
    free = stage.total // 3
    small_disk = shutil.disk_usage(stage.folder)._replace(free=free)
    expected = f"{size_text(stage.total)} are to come and the disk has {size_text(free)} free"
    with mock.patch("shutil.disk_usage", return_value=small_disk):
        try:
            plan_download("real", cache_dir=stage.folder / "elsewhere")
        except CourseError as error:
            require(expected in str(error), str(error))
            stage.say(f"refused: {error}")
        else:
            require(False, "a download onto a disk of a third of its size was not refused")


def folder_in(stage: Rehearsal) -> Path:
    """Where the client of this version puts the model."""
    owner, name = REAL_MODEL_ID.split("/")
    return stage.cache / "models" / f"{owner}--{name}" / "snapshots" / "master"


def lay_out_the_rest(stage: Rehearsal) -> None:
    """For all sizes but the full one: everything but the last shard is in the cache already, as holes."""
    write_model(stage, folder_in(stage))
    (folder_in(stage) / stage.last.name).unlink()


def plan(stage: Rehearsal) -> int:
    """What is to come: everything, or the last shard. In bytes."""
    size = stage.last.stat().st_size
    if stage.size == "full":
        size = stage.total
    text = stage.run("-m", "helpers.download", "plan", "real", "--cache-dir", str(stage.cache))
    require(f"to download {size_text(size)}" in text, text)
    stage.say("plan: " + "; ".join(text.strip().splitlines()))
    return size


def kill_and_resume(stage: Rehearsal, hub: LocalHub, size: int) -> None:
    """Download, kill -9 in the middle, and go on: not one byte may come twice."""
    hub.bytes_per_second = stage.last.stat().st_size / SECONDS_A_SHARD
    if stage.size == "full":
        hub.bytes_per_second = None
    hub.seen.clear()
    arguments = ["-m", "helpers.download", "download", "real", "--cache-dir", str(stage.cache)]
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + LONGEST
    while sum(request.sent for request in hub.seen) < 0.4 * size and process.poll() is None:
        require(time.monotonic() < deadline, "the download does not get to 40 %")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    require(process.wait() == -signal.SIGKILL, "the download ended before it was killed")
    hub.bytes_per_second = None
    before = plan_download("real", cache_dir=stage.cache)
    stage.say(f"killed: {size_text(before.total - before.remaining)} are on the disk")
    require(0 < before.remaining < size, "nothing of the download has stayed")
    hub.seen.clear()
    stage.course("helpers.download", "download", "real", "--cache-dir", str(stage.cache))
    again = sum(request.sent for request in hub.seen if request.kind == "file") - before.remaining
    require(again == 0, f"{again:,} bytes came twice")
    stage.say("resumed: 0 bytes came twice")


def flip_and_repair(stage: Rehearsal, hub: LocalHub) -> None:
    """One wrong byte: verify finds it, repair fetches that shard and no other."""
    arguments = ("helpers.download", "verify", "real", "--cache-dir", str(stage.cache))
    if stage.size != "quick":  # it would read 28.6 GB of holes once more
        stage.course(*arguments, "--full")
    stage.course(*arguments)
    with (folder_in(stage) / stage.last.name).open("r+b") as shard:
        shard.seek(stage.last.stat().st_size // 2)
        shard.write(b"\x01")
    text = stage.course(*arguments, status=1)
    require(f"{stage.last.name} has another sha256" in text, text)
    hub.seen.clear()
    stage.course(*arguments, "--repair")
    fetched = [request.path for request in hub.seen if request.kind == "file"]
    require(fetched == [stage.last.name], f"the repair fetched {fetched}")


def choose(stage: Rehearsal) -> None:
    """The next notebook's choice: the recorded model, or why this machine cannot hold it."""
    record = json.loads((stage.folder / "record" / "model.json").read_text())
    require(record["folder"] == str(folder_in(stage).resolve()), f"the record says {record}")
    text = stage.run("-c", "from helpers import choose_model; choose_model()")
    require(REAL_MODEL_ID in text or "cannot" in text, text)
    stage.say(f"choose_model: {text.strip()[:300]}")


def load_and_write(stage: Rehearsal) -> None:
    """All 14.3 billion parameters with 14 GiB of RAM, the rest on the disk, and two new tokens."""
    offload = stage.folder / "offload"
    text = stage.run("-c", LOAD, str(folder_in(stage)), str(offload))
    lines = [line for line in text.splitlines() if "parameters on" in line or "new tokens" in line]
    for line in lines:
        stage.say(line)
    require("14,315,784,192 parameters" in text, text[-2000:])
    require("0 keys wrong" in text, text[-2000:])
    require("2 new tokens" in text, text[-2000:])
    stage.say(f"offloaded: {disk_used(offload) / 2**30:.1f} GiB on the disk")


def rehearse(folder: Path, size: str) -> None:
    """All steps, one after the other."""
    stage = Rehearsal(folder, size)
    with prepare(stage) as hub:
        before_the_download(stage)
        if size != "full":
            lay_out_the_rest(stage)
        to_come = plan(stage)
        kill_and_resume(stage, hub, to_come)
        flip_and_repair(stage, hub)
        choose(stage)
    stage.say(f"disk: {size_text(disk_used(folder))}")
    if size == "full":
        load_and_write(stage)
    stage.say("The rehearsal is complete.")


def main() -> None:
    """Read the command line, look at the disk, and rehearse in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(description="Rehearse the real path at full size.")
    sizes = parser.add_mutually_exclusive_group(required=True)
    for size, needed in DISK_NEEDED.items():
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=size_text(needed))
    parser.add_argument("--folder", default=None, help="where to work (default: the temporary folder)")
    options = parser.parse_args()
    needed = DISK_NEEDED[options.size]
    with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=options.folder) as name:
        free = shutil.disk_usage(name).free
        require(
            free >= needed, f"{size_text(needed)} of disk are needed, {size_text(free)} free: use --folder"
        )
        rehearse(Path(name), options.size)


if __name__ == "__main__":
    main()
