"""The steps of the full-size benchmark: each measures one lever and returns rows for the result file.

A row says what was pulled (`lever`, `setting`), when (`phase`: prefill, decode or request), on what (`batch`,
`prompt` in tokens), and how long it took: `seconds` for a prefill, a decoding step or a request, and
`tokens_per_second` of all sequences together. A row that could not be measured has `skipped`, the reason.
"""

import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from full_size_models import Sizes, empty_model, random_model
from transformers import StaticCache

from helpers.inference.attention import flash_attn_state
from helpers.routing import RoutingRecorder
from helpers.speed import compare, measure, read_bandwidth, weight_bytes

EXPERTS = ("grouped_mm", "batched_mm", "eager")
ATTENTION = ("sdpa", "eager", "flash_attention_2")
SYNC_WARNING = "called a synchronizing CUDA operation"
STEPS_BEFORE_CAPTURE = 3  # a CUDA graph is recorded once everything has been allocated
COMPILERS = ("cc", "gcc", "clang")  # one of them translates what inductor and Triton write


class Bench:
    """The model at hand: made when a step first asks for it, and one at a time."""

    def __init__(self, sizes: Sizes, device: str):
        self.sizes = sizes
        self.device = device
        self._name = ""
        self._model = None
        #: On how many devices the mixture of experts lies; 0 before it is made.
        self.devices = 0

    def model(self, name: str):
        """`moe` or `dense`, with the settings that a new model has."""
        if self._name != name:
            self.free()
            config = getattr(self.sizes, name)
            self._model = random_model(config, self.device)
            self._name = name
            if name == "moe":
                self.devices = count_devices(self._model)
        self._model.set_attn_implementation("sdpa")
        if name == "moe":
            self._model.set_experts_implementation("grouped_mm")
        return self._model

    def free(self) -> None:
        """Give the memory back."""
        self._model = None
        self._name = ""
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def prompt(self, batch: int, tokens: int) -> torch.Tensor:
        """The same random ids for every lever, (batch, tokens)."""
        generator = torch.Generator().manual_seed(0)
        highest = min(self.sizes.moe.vocab_size, self.sizes.dense.vocab_size)
        return torch.randint(0, highest, (batch, tokens), generator=generator).to(self.device)


def wait(device: str) -> None:
    """Until every GPU has done what was asked of it."""
    if device == "cuda":
        for gpu in range(torch.cuda.device_count()):
            torch.cuda.synchronize(gpu)


def has_compiler() -> bool:
    """Whether this machine has a C compiler."""
    return any(shutil.which(name) for name in COMPILERS)


def count_devices(model) -> int:
    """On how many devices the weights lie."""
    return len({parameter.device for parameter in model.parameters()})


def row(lever: str, setting: str, phase: str, batch: int, prompt: int, seconds: float) -> dict:
    """One measurement. Tokens per second: of the prompt in a prefill, new ones while decoding."""
    tokens = batch
    if phase == "prefill":
        tokens = batch * prompt
    return {
        "lever": lever,
        "setting": setting,
        "phase": phase,
        "batch": batch,
        "prompt": prompt,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }


def skipped(lever: str, setting: str, reason: str, **where) -> dict:
    """A row without a measurement."""
    return {"lever": lever, "setting": setting, **where, "skipped": reason}


def attempt(lever: str, setting: str, work: Callable[[], list[dict]], **where) -> list[dict]:
    """The rows of `work`, or one that says why there are none: a lever that fails must not end the others."""
    try:
        return work()
    except torch.OutOfMemoryError:
        reason = "does not fit into the GPU's memory"
    except Exception as error:  # whatever a lever ends in on a GPU that nobody has tried it on
        lines = str(error).strip().splitlines() or [""]
        reason = f"failed with {type(error).__name__}: {lines[0][:200]}"
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [skipped(lever, setting, reason, **where)]


# Prefill and decode apart


def prefill(model, ids: torch.Tensor, cache=None):
    """One pass over the prompt, (batch, tokens); returns the first new tokens, (batch, 1), and the cache."""
    output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1:].argmax(-1), output.past_key_values


def decode(step: Callable, token: torch.Tensor, cache, count: int) -> torch.Tensor:
    """`count` steps, each with one token of each sequence, (batch, 1); returns the last ones."""
    for _ in range(count):
        output = step(input_ids=token, past_key_values=cache, use_cache=True)
        token = output.logits[:, -1:].argmax(-1)
    return token


@torch.inference_mode()
def prefill_seconds(model, ids: torch.Tensor, device: str, runs: int) -> float:
    """Median time of a prefill, after one that warms up."""
    times = []
    for _ in range(1 + runs):
        wait(device)
        start = time.perf_counter()
        prefill(model, ids)
        wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


@torch.inference_mode()
def decode_seconds(model, ids: torch.Tensor, sizes: Sizes, device: str, step=None, static=False) -> float:
    """Median time of a decoding step, prefill left out, after a run that warms up. `step`: default the model.

    The prefill is always computed with the same experts, so that only the decoding differs.
    """
    step = step or model
    cache = None
    if static:
        room = ids.shape[1] + sizes.new_tokens
        cache = StaticCache(config=model.config, max_cache_len=room)
    times = []
    for _ in range(1 + sizes.runs):
        if static:
            cache.reset()  # the same memory in each run: what was compiled or recorded for it stays right
        token, filled = prefill_grouped(model, ids, cache)
        wait(device)
        start = time.perf_counter()
        decode(step, token, filled, sizes.new_tokens)
        wait(device)
        times.append((time.perf_counter() - start) / sizes.new_tokens)
    return statistics.median(times[1:])


def experts_of(model) -> str:
    """The experts implementation that is set."""
    return model.get_experts_implementation()[""]


# The steps


def bandwidth(bench: Bench) -> list[dict]:
    """How many bytes per second the memory reads."""
    bytes_per_second = read_bandwidth(bench.device, bench.sizes.bandwidth_bytes)
    return [{"lever": "bandwidth", "bytes_per_second": bytes_per_second}]


def generate_rows(bench: Bench, name: str, lever: str, batch: int, **options) -> list[dict]:
    """`generate` as a script calls it, prefill and decode."""
    ids = bench.prompt(batch, bench.sizes.prompt)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model = bench.model(name)
    speed = measure(
        model, inputs, new_tokens=bench.sizes.new_tokens, runs=bench.sizes.runs, pad_token_id=0, **options
    )
    where = (batch, bench.sizes.prompt)
    return [
        row(lever, name, "prefill", *where, speed.first_token),
        row(lever, name, "decode", *where, speed.per_token),
    ]


def plain(bench: Bench) -> list[dict]:
    """The plain script on the mixture of experts: what every lever is compared with."""
    rows = []
    for batch in bench.sizes.batches:
        rows += attempt(
            "generate", "moe", lambda batch=batch: generate_rows(bench, "moe", "generate", batch), batch=batch
        )
    return rows


def dense(bench: Bench) -> list[dict]:
    """The same script on the dense model beside it."""
    rows = []
    for batch in bench.sizes.batches:
        rows += attempt(
            "generate",
            "dense",
            lambda batch=batch: generate_rows(bench, "dense", "generate", batch),
            batch=batch,
        )
    return rows


def prefill_experts(bench: Bench) -> list[dict]:
    """The prefill with each experts implementation."""
    model = bench.model("moe")
    rows = []
    for name in EXPERTS:
        for batch in bench.sizes.batches:
            ids = bench.prompt(batch, bench.sizes.prompt)

            def work(name=name, ids=ids) -> list[dict]:
                model.set_experts_implementation(name)
                seconds = prefill_seconds(model, ids, bench.device, bench.sizes.runs)
                return [row("experts", name, "prefill", *ids.shape, seconds)]

            rows += attempt("experts", name, work, phase="prefill", batch=batch)
    return rows


def decode_experts(bench: Bench) -> list[dict]:
    """Decoding with each experts implementation, which `generate` does not let a script choose on a GPU."""
    return decode_rows(bench, "experts")


def static_cache(bench: Bench) -> list[dict]:
    """The same with a cache of fixed size."""
    return decode_rows(bench, "static cache", static=True)


def compiled(bench: Bench, experts: str) -> list[dict]:
    """The same with a cache of fixed size and a compiled model. Eager experts wait for the CPU: not them."""
    config = bench.sizes.compile_config
    if config.backend == "inductor" and not has_compiler():
        return [skipped("compiled", experts, "this machine has no C compiler, which torch.compile needs")]
    step = bench.model("moe").get_compiled_call(config)

    def marked_step(**inputs):
        torch.compiler.cudagraph_mark_step_begin()  # the results of the step before may be overwritten
        return step(**inputs)

    rows = []
    for batch in bench.sizes.batches:
        torch.compiler.reset()  # else the second batch is compiled for any size, which is slower
        rows += decode_rows(bench, "compiled", (experts,), (batch,), step=marked_step, static=True)
    torch.compiler.reset()
    return rows


def decode_rows(bench: Bench, lever: str, names=EXPERTS, batches=(), **options) -> list[dict]:
    """A decoding step for each experts implementation and batch; default: all batches."""
    model = bench.model("moe")
    rows = []
    for name in names:
        for batch in batches or bench.sizes.batches:
            ids = bench.prompt(batch, bench.sizes.prompt)

            def work(name=name, ids=ids) -> list[dict]:
                model.set_experts_implementation(name)
                seconds = decode_seconds(model, ids, bench.sizes, bench.device, **options)
                return [row(lever, name, "decode", *ids.shape, seconds)]

            rows += attempt(lever, name, work, phase="decode", batch=batch)
    return rows


def cuda_graph(bench: Bench) -> list[dict]:
    """A decoding step recorded once and replayed: no launches from Python, and no compiler needed."""
    model = bench.model("moe")
    reason = ""
    if bench.device != "cuda":
        reason = "CUDA graphs need a CUDA GPU"
    elif count_devices(model) > 1:
        reason = "the model lies on several GPUs"
    if reason:
        return [skipped("cuda graph", "batched_mm", reason)]
    rows = []
    for batch in bench.sizes.batches:
        ids = bench.prompt(batch, bench.sizes.prompt)

        def work(ids=ids) -> list[dict]:
            seconds, same_tokens = graph_seconds(model, ids, bench.sizes)
            measured = row("cuda graph", "batched_mm", "decode", *ids.shape, seconds)
            return [{**measured, "same_tokens": same_tokens}]

        rows += attempt("cuda graph", "batched_mm", work, phase="decode", batch=batch)
    return rows


@torch.inference_mode()
def graph_seconds(model, ids: torch.Tensor, sizes: Sizes) -> tuple[float, bool]:
    """Median time of a replayed decoding step, and whether it writes the tokens that the step itself does."""
    # 1. Room for every step that is to come: a step past the end of the cache would kill the process.
    steps = STEPS_BEFORE_CAPTURE + 1 + (1 + sizes.runs) * sizes.new_tokens
    room = ids.shape[1] + steps
    model.set_experts_implementation("batched_mm")

    # 2. The tokens that are right.
    first, cache = prefill_grouped(model, ids, StaticCache(config=model.config, max_cache_len=room))
    expected = decode(model, first, cache, STEPS_BEFORE_CAPTURE + sizes.new_tokens)

    # 3. Record a step that reads its token where it writes the next one.
    cache.reset()
    first, cache = prefill_grouped(model, ids, cache)
    token = first.clone()  # (batch, 1)

    def step() -> None:
        token.copy_(decode(model, token, cache, 1))

    replay = recorded(step)

    # 4. Replay it.
    times = []
    written = []
    for _ in range(1 + sizes.runs):
        wait(ids.device.type)
        start = time.perf_counter()
        for _ in range(sizes.new_tokens):
            replay()
        wait(ids.device.type)
        times.append((time.perf_counter() - start) / sizes.new_tokens)
        written.append(token.clone())
    return statistics.median(times[1:]), written[0].equal(expected)


def prefill_grouped(model, ids: torch.Tensor, cache):
    """A prefill with `grouped_mm`, whatever is set for the steps after it."""
    wanted = experts_of(model)
    model.set_experts_implementation("grouped_mm")
    result = prefill(model, ids, cache)
    model.set_experts_implementation(wanted)
    return result


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """A function that replays `step` as a CUDA graph; it has run STEPS_BEFORE_CAPTURE times before.

    Those run on a stream of their own, as PyTorch's manual asks. Recording itself computes nothing.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(STEPS_BEFORE_CAPTURE):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def attention(bench: Bench) -> list[dict]:
    """Prefill and decode with each implementation of attention, with a long prompt."""
    model = bench.model("moe")
    state = flash_attn_state()
    rows = []
    for name in ATTENTION:
        if name == "flash_attention_2" and (state != "works" or bench.device != "cuda"):
            reason = f"flash-attn is {state}"
            if state == "works":
                reason = "flash-attn runs on GPUs only"
            rows.append(skipped("attention", name, reason))
            continue
        ids = bench.prompt(1, bench.sizes.long_prompt)

        def work(name=name, ids=ids) -> list[dict]:
            model.set_attn_implementation(name)
            first = prefill_seconds(model, ids, bench.device, bench.sizes.runs)
            model.set_experts_implementation("batched_mm")
            each = decode_seconds(model, ids, bench.sizes, bench.device)
            model.set_experts_implementation("grouped_mm")
            return [
                row("attention", name, "prefill", *ids.shape, first),
                row("attention", name, "decode", *ids.shape, each),
            ]

        rows += attempt("attention", name, work, batch=1)
    return rows


def recorder(bench: Bench) -> list[dict]:
    """What recording the routing costs, and how often the CPU waits for the GPU with it and without."""
    model = bench.model("moe")
    sizes = bench.sizes
    ids = bench.prompt(1, sizes.prompt)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def off() -> float:
        return measure(
            model, inputs, new_tokens=sizes.new_tokens, runs=1, warm_up=0, pad_token_id=0
        ).per_token

    def on() -> float:
        with RoutingRecorder(model):
            return off()

    off()  # pays for what happens once
    times = compare({"off": off, "on": on}, rounds=max(2, sizes.runs))
    rows = [row("recorder", name, "decode", *ids.shape, seconds) for name, seconds in times.items()]
    if bench.device != "cuda":
        return [*rows, skipped("recorder", "host syncs", "only a CUDA GPU is waited for")]
    for name, way in (("off", off), ("on", on)):
        with counted_syncs() as count:
            way()
        per_token = len(count) / sizes.new_tokens
        rows.append({"lever": "recorder", "setting": f"host syncs, {name}", "syncs_per_token": per_token})
    return rows


@contextmanager
def counted_syncs() -> Iterator[list]:
    """In the block, a list that gets one entry each time the CPU waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found += [warning for warning in caught if SYNC_WARNING in str(warning.message)]


def model_facts(sizes: Sizes) -> dict:
    """The shapes of both models, as the roofline needs them."""
    facts = {}
    for name in ("moe", "dense"):
        model = empty_model(getattr(sizes, name))
        facts[name] = {"parameters": model.num_parameters(), "weights": vars(weight_bytes(model))}
    return facts
