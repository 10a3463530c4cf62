"""The full-size benchmark on tiny models and the CPU, so that it runs the first time on a GPU."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import accelerate
import pytest
import speed_steps
import torch
from benchmark_full_size import STEPS, file_for, is_finished, refusal, run_vllm, unusable
from full_size_models import device_map_for, empty_model, full_sizes, random_model, split_model, tiny_sizes
from speed_steps import Bench, attempt, decode, prefill, row, skipped
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import StaticCache

from helpers import GIB
from helpers.inference.result_files import FULL_SIZE, read_result_files
from helpers.speed.results import decodings, limit_of, sentences_of

SCRIPT = Path(__file__).with_name("benchmark_full_size.py")
PATIENCE = 600  # seconds; a net, all steps take about a quarter of a minute
VERSIONS = {"python", "torch", "transformers", "accelerate"}


def call(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> dict:
    """What all steps write, in two calls."""
    out = tmp_path_factory.mktemp("results") / "results.json"
    tiny = ("--tiny", "--device", "cpu", "--out", out)
    first = call(*tiny, "--steps", "plain")
    assert first.returncode == 0, first.stderr
    begun = json.loads(out.read_text(encoding="utf-8"))
    assert list(begun["steps"]) == ["plain"]
    second = call(*tiny)
    assert second.returncode == 0, second.stderr
    finished = json.loads(out.read_text(encoding="utf-8"))
    assert finished["steps"]["plain"] == begun["steps"]["plain"]  # not measured again
    assert not list(out.parent.glob("*.part"))
    return finished


def measured_rows(record: dict, step: str) -> list[dict]:
    return [row for row in record["steps"][step]["rows"] if "skipped" not in row]


def test_every_step_is_there_with_what_it_was_measured_with(record):
    assert set(record["steps"]) == set(STEPS)
    assert record["gpu"] == "no GPU"
    assert set(record["versions"]) >= VERSIONS
    assert record["sizes"] == "tiny"
    assert record["devices"] == 1
    assert record["models"]["moe"]["weights"]["experts"] == tiny_sizes().moe.num_experts
    assert record["models"]["dense"]["weights"]["experts"] == 0


def test_every_lever_that_a_cpu_has_was_measured(record):
    batches = len(tiny_sizes().batches)
    expected = {
        "bandwidth": 1,
        "plain": 2 * batches,
        "prefill experts": 3 * batches,
        "decode experts": 3 * batches,
        "attention": 4,
        "static cache": 3 * batches,
        "cuda graph": 0,
        "recorder": 2,
        "compiled grouped_mm": batches,
        "compiled batched_mm": batches,
        "dense": 2 * batches,
        "vllm": 0,
    }
    assert {step: len(measured_rows(record, step)) for step in record["steps"]} == expected


def test_a_row_has_a_time_and_a_rate_or_a_reason(record):
    for step in record["steps"].values():
        for entry in step["rows"]:
            if "skipped" in entry:
                assert entry["skipped"]
                assert "failed" not in entry["skipped"], entry
            elif "seconds" in entry:
                tokens = entry["tokens_per_second"] * entry["seconds"]
                per_sequence = 1
                if entry["phase"] == "prefill":
                    per_sequence = entry["prompt"]
                assert tokens == pytest.approx(entry["batch"] * per_sequence)


def test_the_notebook_can_read_what_the_benchmark_writes(record, tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(record))
    assert read_result_files(tmp_path) == []  # times of a tiny model are no results
    assert full_sizes().name == FULL_SIZE
    (tmp_path / "full.json").write_text(json.dumps(record | {"sizes": FULL_SIZE}))
    [read] = read_result_files(tmp_path)
    batches = len(tiny_sizes().batches)
    found = decodings(read)
    assert len(found) == (1 + 3 + 3 + 2) * batches  # generate, experts, static cache, compiled
    bandwidth = measured_rows(record, "bandwidth")[0]["bytes_per_second"]
    assert limit_of(read, 1) < bandwidth
    assert found[0].gain == 1
    assert len(list(sentences_of(read))) == 2 * batches + 1


def test_no_further_step_begins_when_the_time_is_over(tmp_path):
    out = tmp_path / "results.json"
    run = call("--tiny", "--device", "cpu", "--out", out, "--minutes", "0")
    assert run.returncode == 0
    assert "0 minutes are over: call it again for the steps from 'bandwidth' on." in run.stdout
    assert not out.exists()


def test_another_setup_is_measured_anew(tmp_path, record):
    out = tmp_path / "results.json"
    out.write_text(json.dumps(record | {"gpu": "another GPU"}))
    run = call("--tiny", "--device", "cpu", "--out", out, "--steps", "bandwidth")
    assert "results.json was measured with another gpu: all steps are measured again." in run.stdout
    assert list(json.loads(out.read_text())["steps"]) == ["bandwidth"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_refuses_in_one_sentence():
    run = call()
    assert run.returncode == 1
    assert run.stderr == "This machine has no CUDA GPU: run it on one, or use --tiny --device cpu.\n"


def test_times_of_a_cpu_never_become_results_by_themselves():
    run = call("--tiny", "--device", "cpu")
    assert run.returncode == 1
    assert run.stderr.startswith("Times of a tiny model or of a CPU are no results")


def test_a_file_that_cannot_take_results_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "notes.json").write_text("[]")
    (tmp_path / "text.txt").write_text("my notes")
    for name in ("notes.json", "text.txt"):
        assert "is no result file of this benchmark, and stays as it is" in unusable(tmp_path / name)
    assert unusable(tmp_path) == f"{tmp_path} is a folder: name a file in it with --out."
    assert "Nothing can be written to" in unusable(tmp_path / "text.txt" / "results.json")
    assert unusable(tmp_path / "new" / "results.json") == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new", "notes.json", "text.txt"]


def test_a_result_file_is_named_after_the_gpu():
    assert file_for("NVIDIA H100 80GB HBM3").name == "nvidia-h100-80gb-hbm3.json"


def test_a_lever_that_fails_is_a_row_with_the_reason():
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken():
        raise RuntimeError("first line\nsecond line")

    for work, reason in (
        (too_large, "does not fit into the GPU's memory"),
        (broken, "failed with RuntimeError: first line"),
    ):
        rows = attempt("lever", "setting", work, batch=8)
        assert rows == [{"lever": "lever", "setting": "setting", "batch": 8, "skipped": reason}]
    assert attempt("a", "b", lambda: [row("a", "b", "decode", 8, 100, 0.5)])[0]["tokens_per_second"] == 16


def test_a_step_with_a_lever_that_failed_is_tried_again():
    assert not is_finished(None)
    assert is_finished({"rows": [row("a", "b", "decode", 1, 10, 0.5), skipped("a", "c", "not installed")]})
    assert not is_finished({"rows": [skipped("a", "b", "failed with RuntimeError: no kernel")]})


class Watch(TorchDispatchMode):
    """Counts the operations whose result the CPU has to wait for on a GPU."""

    def __init__(self):
        super().__init__()
        self.operations = 0
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += 1
        name = function.__name__
        if name.startswith(("_local_scalar_dense", "nonzero", "is_nonzero", "equal")):
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("experts", "waits"), [("batched_mm", False), ("grouped_mm", False), ("eager", True)]
)
def test_a_step_that_is_recorded_as_a_cuda_graph_waits_for_nothing(experts, waits):
    bench = Bench(tiny_sizes(), "cpu")
    model = bench.model("moe")
    cache = StaticCache(config=model.config, max_cache_len=20)
    with torch.no_grad():
        token, cache = prefill(model, bench.prompt(2, 12), cache)
        model.set_experts_implementation(experts)
        with Watch() as watch:
            decode(model, token, cache, 1)
    assert watch.operations > 100
    assert bool(watch.waits) == waits


def played_again(step):
    """Instead of a CUDA graph: the step itself."""
    for _ in range(speed_steps.STEPS_BEFORE_CAPTURE):
        step()
    return step


def test_a_recorded_step_writes_the_tokens_of_the_model(monkeypatch):
    monkeypatch.setattr(speed_steps, "recorded", played_again)
    sizes = tiny_sizes()
    bench = Bench(sizes, "cpu")
    ids = bench.prompt(2, sizes.prompt)
    seconds, same_tokens = speed_steps.graph_seconds(bench.model("moe"), ids, sizes)
    assert seconds > 0
    assert same_tokens
    monkeypatch.setattr(speed_steps, "recorded", lambda step: lambda: None)  # a graph that does nothing
    assert not speed_steps.graph_seconds(bench.model("moe"), ids, sizes)[1]


def test_waits_for_the_gpu_are_counted(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with speed_steps.counted_syncs() as count:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert len(count) == 3
    assert modes == ["warn", 0]


def test_a_card_that_is_too_small_is_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (23 * GIB, 24 * GIB))
    assert refusal(full_sizes(), "cuda") == (
        "The model has 26.7 GiB of weights, the GPUs have room for 18.4 GiB. Use a card of 40 GB or two of "
        "24 GB, and end what else uses them."
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert refusal(full_sizes(), "cuda") == ""


def test_the_full_models_have_the_published_sizes():
    sizes = full_sizes()
    assert empty_model(sizes.moe).num_parameters() == 14_315_784_192
    assert round(empty_model(sizes.dense).num_parameters() / 1e9, 1) == 7.7


def test_two_cards_of_24_gb_get_all_layers_whole(caplog):
    empty = empty_model(full_sizes().moe)
    room = {0: int(0.8 * 23.5 * GIB), 1: int(0.8 * 23.5 * GIB)}
    places = device_map_for(empty, room)
    assert set(places.values()) == {0, 1}
    layers = [name for name in places if name.startswith("model.layers.")]
    assert len(layers) == 24
    for gpu in (0, 1):
        parts = [empty.get_submodule(name) for name, place in places.items() if place == gpu]
        size = sum(weight.nbytes for part in parts for weight in part.parameters())
        assert size <= room[gpu]


def test_cards_that_are_too_small_are_refused():
    with pytest.raises(MemoryError, match=r"26\.7 GiB of weights, the GPUs have room for 20\.0 GiB"):
        device_map_for(empty_model(full_sizes().moe), {0: 10 * GIB, 1: 10 * GIB})


def test_a_split_model_computes_and_none_of_its_weights_is_missing():
    config = tiny_sizes().moe
    empty = empty_model(config)
    places = accelerate.infer_auto_device_map(
        empty, max_memory={"cpu": 10**9}, no_split_module_classes=["Qwen2MoeDecoderLayer"]
    )
    if places == {"": "cpu"}:
        places = dict.fromkeys(("model.embed_tokens", "model.layers", "model.norm", "lm_head"), "cpu")
    model = split_model(empty, places)
    assert not [name for name, weight in model.named_parameters() if weight.is_meta]
    whole = random_model(config, "cpu")
    assert torch.equal(model.model.rotary_emb.inv_freq, whole.model.rotary_emb.inv_freq)
    logits = model(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert torch.isfinite(logits).all()


def test_one_model_at_a_time_and_with_fresh_settings():
    bench = Bench(tiny_sizes(), "cpu")
    bench.model("moe").set_experts_implementation("eager")
    assert bench.model("moe").get_experts_implementation()[""] == "grouped_mm"
    assert bench.model("dense").config.model_type == "qwen2"
    assert torch.equal(bench.prompt(2, 5), bench.prompt(2, 5))


FAKE_VLLM = """
import sys
__version__ = "0.fake"
class SamplingParams:
    def __init__(self, **wishes):
        assert wishes["ignore_eos"]
class LLM:
    def __init__(self, model, load_format, **options):
        import json, pathlib
        self.config = json.loads((pathlib.Path(model) / "config.json").read_text())
        assert load_format == "dummy"
    def generate(self, prompts, wishes, use_tqdm):
        assert all(len(prompt["prompt_token_ids"]) == 12 for prompt in prompts)
"""


def test_vllm_is_asked_in_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "vllm.py").write_text(FAKE_VLLM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rows = run_vllm(Bench(tiny_sizes(), "cpu"), "moe")
    assert [entry["batch"] for entry in rows] == [1, 2]
    assert rows[0]["version"] == "0.fake"
    (tmp_path / "vllm.py").write_text("raise RuntimeError('no driver')")
    rows = run_vllm(Bench(tiny_sizes(), "cpu"), "moe")
    assert rows[0]["skipped"] == "ended with 1: RuntimeError: no driver"
