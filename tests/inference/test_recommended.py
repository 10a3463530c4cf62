"""The recommended setting: which one on which machine, what is said of its gain, and the same answers."""

import json
from types import SimpleNamespace

import pytest
import torch

from helpers.inference import KeptPrefix, load, recommended, stream_chat
from helpers.inference.recommended import Setting, apply_recommended, gain_sentence, recommend
from helpers.inference.result_files import FULL_SIZE

MESSAGES = [{"role": "user", "content": "What is a token?"}]
ONE_GPU = SimpleNamespace(on_gpus=(26 * 2**30,), in_ram=0, on_disk=0)
ON_CPU = SimpleNamespace(on_gpus=(), in_ram=26 * 2**30, on_disk=0)


@pytest.mark.parametrize(
    ("capabilities", "places", "compiler", "tokens", "static", "words"),
    [
        ([], 1, True, "grouped_mm", False, "for GPUs"),
        ([(8, 6)], 1, True, "batched_mm", True, "the routing cannot be recorded"),
        ([(9, 0)], 1, True, "batched_mm", True, "while it is compiled"),
        ([(9, 0)], 1, False, "batched_mm", False, "no C compiler"),
        ([(8, 6), (8, 6)], 2, True, "batched_mm", False, "several places"),
        ([(8, 6)], 2, True, "batched_mm", False, "several places"),
        ([(6, 1)], 1, True, "batched_mm", False, "capability 7.0"),
    ],
)
def test_the_setting_follows_the_machine(capabilities, places, compiler, tokens, static, words):
    setting = recommend(capabilities, places, compiler)
    assert setting.experts_of_prompt == "grouped_mm"
    assert setting.experts_of_tokens == tokens
    assert setting.static_cache == static
    assert words in setting.why


def result(gpu: str, rate: float) -> dict:
    """A result file in which compiling brings `rate` tokens/s instead of 10."""
    rows = []
    for lever, setting, tokens in (("generate", "moe", 10), ("compiled", "batched_mm", rate)):
        row = {"lever": lever, "setting": setting, "phase": "decode", "batch": 1}
        rows.append({**row, "tokens_per_second": tokens})
    empty = dict.fromkeys(("driver", "versions", "models"))
    return {**empty, "gpu": gpu, "date": "2026-01-02", "sizes": FULL_SIZE, "steps": {"all": {"rows": rows}}}


def test_the_gain_is_that_of_the_same_gpu_or_is_not_said(tmp_path, monkeypatch):
    for gpu, rate in (("First", 35), ("Second", 20)):
        (tmp_path / f"{gpu}.json").write_text(json.dumps(result(gpu, rate)))
    read = recommended.read_result_files
    monkeypatch.setattr(recommended, "read_result_files", lambda: read(tmp_path))
    static = Setting("grouped_mm", "batched_mm", True, "")
    assert "(Second, 2026-01-02): 2.0 times the tokens/s" in gain_sentence(static, "Second")
    assert gain_sentence(static, "Third") == "What that brings was not measured on this GPU."
    plain = Setting("grouped_mm", "batched_mm", False, "")
    assert gain_sentence(plain, "First") == "That is how the plain script runs, so nothing is gained."


def answer(model, tokenizer) -> list[int]:
    stream = stream_chat(model, tokenizer, MESSAGES, max_new_tokens=12, do_sample=False)
    list(stream)
    return stream.token_ids


def test_without_the_argument_nothing_is_set_or_said(folder, loaded, capsys):
    model, _ = load(folder)
    assert model.generation_config.cache_implementation is None
    assert model.get_experts_implementation() == loaded[0].get_experts_implementation()
    assert "Recommended" not in capsys.readouterr().out


def test_on_a_cpu_the_recommended_setting_is_the_usual_one(folder, loaded, capsys):
    model, tokenizer = load(folder, recommended=True)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[-1].startswith("Recommended: experts grouped_mm for the prompt and grouped_mm for each token")
    assert model.generation_config.cache_implementation is None
    assert answer(model, tokenizer) == answer(*loaded)


def test_the_setting_for_one_gpu_gives_the_same_answer(folder, loaded, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU that nobody has")
    monkeypatch.setattr(recommended.shutil, "which", lambda name: f"/usr/bin/{name}")
    model, tokenizer = load(folder)
    setting = apply_recommended(model, ONE_GPU, [(9, 0)])
    assert setting.static_cache
    assert model.generation_config.cache_implementation == "static"
    assert "was not measured on this GPU" in capsys.readouterr().out
    assert answer(model, tokenizer) == answer(
        *loaded
    )  # on a CPU, generate takes the cache and does not compile


def test_a_chat_whose_cache_is_kept_answers_the_same_with_a_static_cache(folder, loaded, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU that nobody has")
    monkeypatch.setattr(recommended.shutil, "which", lambda name: f"/usr/bin/{name}")
    model, tokenizer = load(folder)
    apply_recommended(model, ONE_GPU, [(9, 0)])
    prefix = KeptPrefix()
    for _ in range(2):
        stream = stream_chat(model, tokenizer, MESSAGES, prefix=prefix, max_new_tokens=12, do_sample=False)
        list(stream)
        assert stream.token_ids == answer(*loaded)
        assert stream.reused_tokens == 0


def test_places_are_counted():
    assert recommended.places_of(ONE_GPU) == 1
    assert recommended.places_of(ON_CPU) == 1
    assert recommended.places_of(SimpleNamespace(on_gpus=(1, 1), in_ram=1, on_disk=0)) == 3
