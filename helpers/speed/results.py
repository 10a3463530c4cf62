"""What the full-size benchmark found on GPUs, as a table, a figure and sentences for notebook 07.

`tests/gpu/benchmark_full_size.py` writes one file for each GPU into `helpers/speed/results`. Nothing here is
typed in by hand: without a file there is nothing to show, and that is said.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from helpers.inference.result_files import find_row, read_result_files, rows_of
from helpers.language import say
from helpers.speed.roofline import WeightBytes

#: Levers that write tokens with the mixture of experts; the others have tables of their own.
LEVERS = ("generate", "experts", "static cache", "cuda graph", "compiled")
INCHES_A_BAR = 0.34


class Decoding(NamedTuple):
    """One way of writing tokens with the full-size mixture of experts on a GPU."""

    gpu: str
    way: str
    """Lever and setting, as in "compiled, batched_mm"."""
    batch: int
    tokens_per_second: float
    """Of all sequences together."""
    share: float | None
    """Of the limit that the memory sets, which was measured in the same run; None if it was not."""
    gain: float | None
    """Times the plain script at the same batch; None if that was not measured."""


def decodings(record: dict) -> list[Decoding]:
    """Every way of writing tokens that was measured on a GPU, in the order of the benchmark."""
    found = []
    for row in rows_of(record):
        if row["lever"] not in LEVERS or row.get("phase") != "decode" or row["setting"] == "dense":
            continue
        way = f"{row['lever']}, {row['setting']}"
        if row["lever"] == "generate":
            way = "generate"
        batch = row["batch"]
        rate = row["tokens_per_second"]
        plain = find_row(record, lever="generate", setting="moe", phase="decode", batch=batch)
        limit = limit_of(record, batch)
        share = None
        if limit is not None:
            share = rate / limit
        gain = None
        if plain is not None:
            gain = rate / plain["tokens_per_second"]
        found.append(Decoding(record["gpu"], way, batch, rate, share, gain))
    return found


def limit_of(record: dict, batch: int) -> float | None:
    """Tokens per second that the memory allows, by the bandwidth of the same run; None without one."""
    measured = find_row(record, lever="bandwidth")
    if measured is None:
        return None
    weights = WeightBytes(**record["models"]["moe"]["weights"])
    return weights.limit(measured["bytes_per_second"], batch)


def result_table(records: Sequence[dict] | None = None):
    """All ways of writing tokens as a pandas table: share of the limit, and times the plain script.

    `records`: default what lies in `helpers/speed/results`. Without any, a table without rows.
    """
    import pandas as pd  # imported late: it takes a moment

    if records is None:
        records = read_result_files()
    rows = [row for record in records for row in decodings(record)]
    names = {
        "gpu": "GPU",
        "way": say("way"),
        "batch": say("batch"),
        "tokens_per_second": "tokens/s",
        "share": say("share of the limit"),
        "gain": say("times generate"),
    }
    table = pd.DataFrame(rows, columns=list(Decoding._fields))
    return table.round({"tokens_per_second": 1, "share": 3, "gain": 2}).rename(columns=names)


def result_sentences(records: Sequence[dict] | None = None) -> Iterator[str]:
    """What the results say, one sentence after the other; without any, that nothing was measured yet."""
    if records is None:
        records = read_result_files()
    if not records:
        yield say(
            "Not measured yet: no GPU has run this benchmark. With one, run python "
            "tests/gpu/benchmark_full_size.py, and this cell again."
        )
    for record in records:
        yield say(
            "{gpu}, driver {driver}, torch {torch}, transformers {transformers}, measured on {date}:",
            gpu=record["gpu"],
            driver=record["driver"],
            torch=record["versions"]["torch"],
            transformers=record["versions"]["transformers"],
            date=record["date"],
        )
        yield from sentences_of(record)


def sentences_of(record: dict) -> Iterator[str]:
    """What the results of one GPU say: the fastest way for each batch, the dense model, the recorder."""
    found = decodings(record)
    for batch in sorted({one.batch for one in found}):
        best = max((one for one in found if one.batch == batch), key=lambda one: one.tokens_per_second)
        if best.share is not None and best.gain is not None:
            yield say(
                "Batch {batch}: fastest is {way} with {rate:,.0f} tokens/s, {gain:.1f} times generate, "
                "{share:.0%} of the limit.",
                batch=batch,
                way=best.way,
                rate=best.tokens_per_second,
                gain=best.gain,
                share=best.share,
            )
    yield from dense_sentences(record)
    off = find_row(record, lever="recorder", setting="off")
    on = find_row(record, lever="recorder", setting="on")
    if off is not None and on is not None:
        yield say(
            "Recording the routing: {ratio:.2f} times the time for a token.",
            ratio=on["seconds"] / off["seconds"],
        )


def dense_sentences(record: dict) -> Iterator[str]:
    """The mixture of experts against the dense model of the same class, in Transformers and in vLLM."""
    for batch in sorted({row["batch"] for row in rows_of(record) if row.get("setting") == "dense"}):
        ratio = rate_against_dense(record, "generate", "decode", batch)
        if ratio is not None:
            yield say(
                "Batch {batch}: with generate it writes {ratio:.2f} times as many tokens/s as the dense 7B.",
                batch=batch,
                ratio=ratio,
            )
        ratio = rate_against_dense(record, "vllm", "request", batch)
        if ratio is not None:
            yield say(
                "Batch {batch}: in vLLM {ratio:.2f} times the dense 7B, prompt and answer counted.",
                batch=batch,
                ratio=ratio,
            )


def rate_against_dense(record: dict, lever: str, phase: str, batch: int) -> float | None:
    """Tokens per second of the mixture of experts by those of the dense model; None if one is missing."""
    moe = find_row(record, lever=lever, setting="moe", phase=phase, batch=batch)
    dense = find_row(record, lever=lever, setting="dense", phase=phase, batch=batch)
    if moe is None or dense is None:
        return None
    return moe["tokens_per_second"] / dense["tokens_per_second"]


def draw_results(records: Sequence[dict] | None = None, batch: int = 1):
    """A matplotlib figure: tokens per second of every way at this batch, and the limit as a dashed line.

    One row of axes a GPU. None where nothing was measured.
    """
    import matplotlib.pyplot as plt  # imported late: it takes a second

    if records is None:
        records = read_result_files()
    shown = []
    for record in records:
        ways = [one for one in decodings(record) if one.batch == batch]
        if ways:
            shown.append((record, ways))
    if not shown:
        return None
    bars = sum(len(ways) + 3 for _, ways in shown)
    figure, all_axes = plt.subplots(
        len(shown), figsize=(6, INCHES_A_BAR * bars), squeeze=False, layout="constrained"
    )
    for axes, (record, ways) in zip(all_axes[:, 0], shown, strict=True):
        axes.barh([one.way for one in ways], [one.tokens_per_second for one in ways], color="0.45")
        axes.invert_yaxis()
        axes.set(xlabel="tokens per second", title=f"{record['gpu']}, batch {batch}")
        limit = limit_of(record, batch)
        if limit is not None:
            axes.axvline(limit, color="black", linestyle="--", label="limit of the memory")
            axes.legend()
    return figure
