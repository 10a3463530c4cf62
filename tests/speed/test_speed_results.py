"""The results of the full-size benchmark: read, compared, drawn, and "not measured yet" without any."""

import copy
import json

import matplotlib
import pytest

from helpers import CourseError
from helpers.inference.result_files import FULL_SIZE, decoding_gain, find_row, read_result_files
from helpers.speed.results import draw_results, limit_of, result_sentences, result_table

matplotlib.use("Agg")


def entry(lever, setting, phase, batch, rate):
    tokens_per_second = {"tokens_per_second": rate, "seconds": batch / rate}
    return {"lever": lever, "setting": setting, "phase": phase, "batch": batch, **tokens_per_second}


WEIGHTS = {"rest": 600, "embedding": 50, "layers": 2, "experts": 4, "expert": 100, "chosen": 1}  # bytes
DENSE_WEIGHTS = {"rest": 2000, "embedding": 50, "layers": 0, "experts": 0, "expert": 0, "chosen": 0}
# One token reads 600 + 2 x 1 x 100 = 800 bytes, so the memory allows 100 tokens/s at batch 1.
RECORD = {
    "gpu": "Test GPU",
    "driver": "1.2",
    "versions": {"torch": "2.13", "transformers": "5.23"},
    "date": "2026-01-02",
    "sizes": FULL_SIZE,
    "models": {"moe": {"weights": WEIGHTS}, "dense": {"weights": DENSE_WEIGHTS}},
    "steps": {
        "bandwidth": {"rows": [{"lever": "bandwidth", "bytes_per_second": 80_000}]},
        "plain": {
            "rows": [
                entry("generate", "moe", "prefill", 1, 900),
                entry("generate", "moe", "decode", 1, 20),
                entry("generate", "moe", "decode", 8, 80),
            ]
        },
        "compiled": {
            "rows": [
                entry("compiled", "batched_mm", "decode", 1, 75),
                {"lever": "compiled", "setting": "grouped_mm", "skipped": "no compiler"},
            ]
        },
        "dense": {"rows": [entry("generate", "dense", "decode", 1, 25)]},
        "vllm": {
            "rows": [entry("vllm", "moe", "request", 1, 348), entry("vllm", "dense", "request", 1, 200)]
        },
        "recorder": {
            "rows": [entry("recorder", "off", "decode", 1, 20), entry("recorder", "on", "decode", 1, 16)]
        },
    },
}


def test_a_folder_of_results_is_read_in_order(tmp_path):
    assert read_result_files(tmp_path / "nothing") == []
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(json.dumps(RECORD | {"gpu": name}))
    (tmp_path / "tiny.json").write_text(json.dumps(RECORD | {"sizes": "tiny"}))
    assert [record["gpu"] for record in read_result_files(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"gpu": "x"}', "no json"])
def test_a_file_that_is_no_result_is_named(tmp_path, text):
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(
        CourseError, match=r"^broken\.json is no result of the full-size benchmark: delete it"
    ):
        read_result_files(tmp_path)


def test_rows_that_were_skipped_are_not_found():
    assert find_row(RECORD, lever="compiled", setting="grouped_mm") is None
    assert find_row(RECORD, lever="compiled", batch=1)["tokens_per_second"] == 75


def test_a_way_that_writes_other_tokens_is_no_way():
    wrong = copy.deepcopy(RECORD)
    [fast, _] = wrong["steps"]["compiled"]["rows"]
    fast["same_tokens"] = False
    assert decoding_gain(wrong, "compiled", "batched_mm") is None
    fast["same_tokens"] = True
    assert decoding_gain(wrong, "compiled", "batched_mm") == 75 / 20


def test_the_gain_is_over_the_plain_script():
    assert decoding_gain(RECORD, "compiled", "batched_mm") == 75 / 20
    assert decoding_gain(RECORD, "compiled", "grouped_mm") is None
    assert decoding_gain(RECORD, "compiled", "batched_mm", batch=8) is None


def test_the_limit_comes_from_the_bandwidth_of_the_same_run():
    assert limit_of(RECORD, 1) == pytest.approx(100)
    without = copy.deepcopy(RECORD)
    del without["steps"]["bandwidth"]
    assert limit_of(without, 1) is None


def test_the_table_has_a_row_for_every_way_of_writing():
    table = result_table([RECORD])
    assert table["way"].tolist() == ["generate", "generate", "compiled, batched_mm"]
    assert table["times generate"].tolist() == [1, 1, 3.75]
    assert table["share of the limit"].tolist()[::2] == [0.2, 0.75]
    assert len(result_table([])) == 0


def test_the_sentences_say_what_was_found():
    said = list(result_sentences([RECORD]))
    assert said == [
        "Test GPU, driver 1.2, torch 2.13, transformers 5.23, measured on 2026-01-02:",
        "Batch 1: fastest is compiled, batched_mm with 75 tokens/s, 3.8 times generate, 75% of the limit.",
        f"Batch 8: fastest is generate with 80 tokens/s, 1.0 times generate, {80 / limit_of(RECORD, 8):.0%} "
        "of the limit.",
        "Batch 1: with generate it writes 0.80 times as many tokens/s as the dense 7B.",
        "Batch 1: in vLLM 1.74 times the dense 7B, prompt and answer counted.",
        "Recording the routing: 1.25 times the time for a token.",
    ]


def test_without_results_it_says_so_and_draws_nothing():
    [sentence] = result_sentences([])
    assert sentence.startswith("Not measured yet: no GPU has run this benchmark.")
    assert draw_results([]) is None
    assert draw_results([RECORD], batch=32) is None


def test_a_benchmark_that_was_broken_off_is_shown_as_far_as_it_came():
    begun = copy.deepcopy(RECORD)
    begun["steps"] = {"bandwidth": RECORD["steps"]["bandwidth"]}
    assert len(list(result_sentences([begun]))) == 1
    assert draw_results([begun]) is None


def test_the_figure_has_a_bar_for_each_way_and_the_limit():
    figure = draw_results([RECORD, RECORD | {"gpu": "Other GPU"}])
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == [20, 75]
    assert first.lines[0].get_xdata()[0] == pytest.approx(100)
    assert second.get_title() == "Other GPU, batch 1"
    matplotlib.pyplot.close(figure)
