"""The forecast in a terminal: `python -m helpers.vram`.

python -m helpers.vram real --gpus 24GiB 24GiB --prompt 2048 --new 512 --batch 1
"""

import json
import sys

from helpers import GIB, CourseError
from helpers.language import say, to_say
from helpers.terminal import CommandParser, in_a_row, padded, right_aligned
from helpers.vram.forecasting import PHASES, forecast
from helpers.vram.search import cards, cards_of_this_size, largest, largest_in_memory, limit_of

#: Columns of the table, as the keys of a forecast's rows.
COLUMNS = (
    to_say("weights"),
    to_say("kv_cache"),
    to_say("loading"),
    to_say("prefill"),
    to_say("decode"),
    to_say("context"),
    to_say("overhead"),
    to_say("needs"),
    to_say("size"),
)
COLUMN = 9  # places
SEARCHED = ("prompt", "batch")
MOST_CARDS = 16  # more of one kind are not looked for


def verdict(result: dict, model, gpus, **request) -> str:
    """A forecast in words: it fits, or by how much, where and when it does not, and what would fit.

    `result`: the forecast of this model, these GPUs and this request.
    """
    sentences = []
    if result["too_long"]:
        sentences.append(
            say(
                "The model was made for {limit:,} tokens, and prompt and answer have {too_long:,} more: "
                "take a shorter prompt.",
                limit=result["limit"],
                too_long=result["too_long"],
            )
        )
    if result["attention"] != request.get("attention", "sdpa"):
        sentences.append(
            say(
                "This model has no such attention: the figures are for {attention}.",
                attention=result["attention"],
            )
        )
    sentences.append(verdict_on_memory(result, model, gpus, **request))
    return in_a_row(*sentences)


def verdict_on_memory(result: dict, model, gpus, **request) -> str:
    """One or two sentences on the memory alone."""
    worst = max(result["gpus"], key=lambda row: row["needs"] - row["size"])
    lack = (worst["needs"] - worst["size"]) / GIB
    if result["fits_memory"]:
        sentence = to_say("It fits: {free:.2f} GiB stay free on GPU {gpu}.")
        if result["too_long"]:
            sentence = to_say("The memory would do: {free:.2f} GiB stay free on GPU {gpu}.")
        return say(sentence, free=-lack, gpu=worst["gpu"])
    if result["offloaded"]:
        count = cards_of_this_size(model, gpus, MOST_CARDS, **request)
        return in_a_row(lack_for_weights(result["offloaded"] / GIB, count), result["capacity"])
    if lack <= 0:  # too little would stay free beside the weights
        return result["capacity"]
    fitting = {setting: largest(setting, model, gpus=gpus, **request) for setting in SEARCHED}
    return lack_during(max(PHASES, key=worst.get), worst["gpu"], lack, fitting)


def lack_for_weights(lack: float, count: int | None) -> str:
    """GiB of weights that are not on the GPUs, and how many GPUs would hold them; None: too many."""
    if count is None:
        return say(
            "The GPUs lack {lack:.2f} GiB for the weights: take more than {most} such GPUs.",
            lack=lack,
            most=MOST_CARDS,
        )
    return say(
        "The GPUs lack {lack:.2f} GiB for the weights: take {count} such GPUs.", lack=lack, count=count
    )


def lack_during(phase: str, gpu: int, lack: float, fitting: dict[str, int]) -> str:
    """GiB that a GPU lacks in a phase. `fitting`: "prompt" and "batch" that would fit, 0 if none does."""
    sentence = to_say("GPU {gpu} lacks {lack:.2f} GiB during {phase}: take larger GPUs.")
    if fitting["batch"] and fitting["prompt"]:
        sentence = to_say(
            "GPU {gpu} lacks {lack:.2f} GiB during {phase}: take batch {batch} or prompt {prompt}."
        )
    elif fitting["batch"]:
        sentence = to_say("GPU {gpu} lacks {lack:.2f} GiB during {phase}: take batch {batch}.")
    elif fitting["prompt"]:
        sentence = to_say("GPU {gpu} lacks {lack:.2f} GiB during {phase}: take prompt {prompt}.")
    return say(sentence, gpu=gpu, lack=lack, phase=say(phase), **fitting)


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser("python -m helpers.vram", description=say("Forecast a model's GPU memory."))
    parser.add_argument(
        "model", help=say("a model folder, a config.json, real, embedded, or the real model's id")
    )
    parser.add_argument("--gpus", nargs="+", default=["24GiB"] * 2, help=say("sizes such as 24GiB or 24GB"))
    parser.add_argument("--batch", type=int, default=1, help=say("number of prompts at a time"))
    parser.add_argument("--prompt", type=int, default=2048, help=say("tokens of a prompt"))
    parser.add_argument("--new", type=int, default=512, help=say("tokens of an answer"))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attention", default="sdpa", help=say("sdpa, eager or flash_attention_2"))
    parser.add_argument("--experts", default="grouped_mm", help=say("grouped_mm, batched_mm or eager"))
    parser.add_argument("--padding", action="store_true", help=say("the prompts have different lengths"))
    parser.add_argument(
        "--sampling", action="store_true", help=say("draw tokens, with the model's own settings")
    )
    parser.add_argument("--fits", action="store_true", help=say("also: longest prompt, largest batch, cards"))
    parser.add_argument("--json", action="store_true", help=say("print all figures, in bytes, as JSON"))
    return parser


def answer(request: dict, search: bool) -> dict:
    """The forecast, its verdict, and with `search` what else fits."""
    result = forecast(**request)
    if search or not result["fits"]:
        print(say("Searching for settings that fit takes some seconds ..."), file=sys.stderr, flush=True)
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
    headings = [right_aligned(say(name), COLUMN) for name in COLUMNS]
    print("  GiB" + "".join(headings))
    for row in result["gpus"]:
        print(f"GPU {row['gpu']}" + "".join(f"{row[name] / GIB:9.2f}" for name in COLUMNS))
    print(result["verdict"])
    if "largest" in result:
        print_what_fits(result)


def print_what_fits(result: dict) -> None:
    """The longest prompt, the largest batch, and how many cards of each kind."""
    print(
        say(
            "Largest that fits, all else equal: prompt {prompt:,}, batch {batch:,}.",
            prompt=result["largest"]["prompt"],
            batch=result["largest"]["batch"],
        )
    )
    if "longest_in_memory" in result:
        print(
            say(
                "The prompt ends where the model's {limit:,} tokens do; "
                "memory alone would allow {longest:,}.",
                limit=result["limit"],
                longest=result["longest_in_memory"],
            )
        )
    for name, count in result["cards"].items():
        said = say("more than 2 needed")
        if count:
            said = say("{count} needed", count=count)
        print(f"{padded(name, 24)} {said}")


def main() -> None:
    """Read the arguments, print the answer; an error is one sentence and exit status 1."""
    try:
        request = vars(build_parser().parse_args())
        as_json = request.pop("json")
        search = request.pop("fits")
        result = answer(request, search)
    except CourseError as error:
        raise SystemExit(str(error)) from error
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_answer(result)
