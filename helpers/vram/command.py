"""The forecast in a terminal: `python -m helpers.vram`.

python -m helpers.vram real --gpus 24GiB 24GiB --prompt 2048 --new 512 --batch 1
"""

import argparse
import json
import sys

from helpers import GIB, CourseError
from helpers.vram.forecasting import PHASES, forecast
from helpers.vram.search import cards, cards_of_this_size, largest, largest_in_memory, limit_of

COLUMNS = ("weights", "kv_cache", *PHASES, "context", "overhead", "needs", "size")
SEARCHED = ("prompt", "batch")


def verdict(result: dict, model, gpus, **request) -> str:
    """A forecast in words: it fits, or by how much, where and when it does not, and what would fit.

    `result`: the forecast of this model, these GPUs and this request.
    """
    sentences = []
    if result["too_long"]:
        sentences.append(
            f"The model was made for {result['limit']:,} tokens, and prompt and answer have "
            f"{result['too_long']:,} more: take a shorter prompt."
        )
    if result["attention"] != request.get("attention", "sdpa"):
        sentences.append(f"This model has no such attention: the figures are for {result['attention']}.")
    sentences.append(verdict_on_memory(result, model, gpus, **request))
    return " ".join(sentences)


def verdict_on_memory(result: dict, model, gpus, **request) -> str:
    """One or two sentences on the memory alone."""
    worst = max(result["gpus"], key=lambda row: row["needs"] - row["size"])
    lack = (worst["needs"] - worst["size"]) / GIB
    if result["fits_memory"]:
        start = "It fits"
        if result["too_long"]:
            start = "The memory would do"
        return f"{start}: {-lack:.2f} GiB stay free on GPU {worst['gpu']}."
    if result["offloaded"]:
        count = cards_of_this_size(model, gpus, **request) or "more than 16"
        return (
            f"The GPUs lack {result['offloaded'] / GIB:.2f} GiB for the weights: take {count} such GPUs. "
            f"{result['capacity']}"
        )
    if lack <= 0:  # too little would stay free beside the weights
        return result["capacity"]
    fitting = []
    for setting in ("batch", "prompt"):
        value = largest(setting, model, gpus=gpus, **request)
        if value:
            fitting.append(f"{setting} {value}")
    remedy = " or ".join(fitting) or "larger GPUs"
    phase = max(PHASES, key=worst.get)
    return f"GPU {worst['gpu']} lacks {lack:.2f} GiB during {phase}: take {remedy}."


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser("python -m helpers.vram", description="Forecast a model's GPU memory.")
    parser.add_argument("model", help="a model folder, a config.json, real, embedded, or the real model's id")
    parser.add_argument("--gpus", nargs="+", default=["24GiB"] * 2, help="sizes such as 24GiB or 24GB")
    parser.add_argument("--batch", type=int, default=1, help="number of prompts at a time")
    parser.add_argument("--prompt", type=int, default=2048, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=512, help="tokens of an answer")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attention", default="sdpa", help="sdpa, eager or flash_attention_2")
    parser.add_argument("--experts", default="grouped_mm", help="grouped_mm, batched_mm or eager")
    parser.add_argument("--padding", action="store_true", help="the prompts have different lengths")
    parser.add_argument("--sampling", action="store_true", help="draw tokens, with the model's own settings")
    parser.add_argument("--fits", action="store_true", help="also: longest prompt, largest batch, cards")
    parser.add_argument("--json", action="store_true", help="print all figures, in bytes, as JSON")
    return parser


def answer(request: dict, search: bool) -> dict:
    """The forecast, its verdict, and with `search` what else fits."""
    result = forecast(**request)
    if search or not result["fits"]:
        print("Searching for settings that fit takes some seconds ...", file=sys.stderr, flush=True)
    result["verdict"] = verdict(result, **request)
    if search:
        result["largest"] = {setting: largest(setting, **request) for setting in SEARCHED}
        if result["largest"]["prompt"] == limit_of("prompt", **request):
            result["longest_in_memory"] = largest_in_memory("prompt", **request)
        on_any_card = {name: value for name, value in request.items() if name not in ("gpus", "dtype")}
        result["cards"] = cards(**on_any_card)
    return result


def print_answer(result: dict) -> None:
    """The answer as a table, in GiB, and sentences."""
    print("  GiB" + "".join(f"{name:>9}" for name in COLUMNS))
    for row in result["gpus"]:
        print(f"GPU {row['gpu']}" + "".join(f"{row[name] / GIB:9.2f}" for name in COLUMNS))
    print(result["verdict"])
    if "largest" in result:
        prompt = result["largest"]["prompt"]
        batch = result["largest"]["batch"]
        print(f"Largest that fits, all else equal: prompt {prompt:,}, batch {batch:,}.")
        if "longest_in_memory" in result:
            print(
                f"The prompt ends where the model's {result['limit']:,} tokens do; "
                f"memory alone would allow {result['longest_in_memory']:,}."
            )
        for name, count in result["cards"].items():
            print(f"{name:<24} {count or 'more than 2'} needed")


def main() -> None:
    """Read the arguments, print the answer; an error is one sentence and exit status 1."""
    request = vars(build_parser().parse_args())
    as_json = request.pop("json")
    search = request.pop("fits")
    try:
        result = answer(request, search)
    except CourseError as error:
        raise SystemExit(str(error)) from error
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_answer(result)
