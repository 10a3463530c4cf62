"""How long a model takes to answer: the time to the first token, and the time for each one after it.

    speed = measure(model, inputs, new_tokens=64)
    print(speed)

The clock is read each time `generate` hands over a token. On a GPU, PyTorch only notes what is to be
computed and goes on; a token is handed over once it has been copied to the CPU, so it is really there when
the clock is read. (On Apple's GPUs `generate` hands each token over a step late.)
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import NamedTuple

from helpers import CourseError
from helpers.inference.generate_options import refused
from helpers.inference.streaming import OF_OPTIONS, context_tokens
from helpers.language import say
from helpers.routing.experiments import seconds_for_a_pass
from helpers.speed.arguments import check_whole

SECONDS_WITHOUT_A_BAR = 2
MILLISECONDS = 1000  # in a second
#: Options of `generate` that would change what is counted.
OWN = ("streamer", "max_new_tokens", "min_new_tokens", "num_return_sequences")


class Run(NamedTuple):
    """One call of `generate`, in seconds."""

    first_token: float
    """From the call to the first new token: the prefill."""
    steps: tuple[float, ...]
    """From each handing over of tokens to the next one; mostly of one token for each sequence."""
    later_tokens: int
    """How many tokens of each sequence came after the first hand-over."""


@dataclass(frozen=True)
class Speed:
    """What `measure` found: all its runs, without those that warmed up. Times in seconds."""

    batch: int
    """How many sequences were written at once."""
    prompt_tokens: int
    """Of each sequence, padding counted."""
    runs: tuple[Run, ...]

    @property
    def first_token(self) -> float:
        """Time to first token: the median of the runs."""
        return statistics.median(run.first_token for run in self.runs)

    @property
    def per_token(self) -> float:
        """Time per output token, the first one left out: the median of the runs.

        In a batch all sequences get a token in this time.
        """
        return statistics.median(sum(run.steps) / run.later_tokens for run in self.runs)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all sequences together, after the first ones."""
        return self.batch / self.per_token

    def percentile(self, percent: float) -> float:
        """The time that so many percent of all steps, of all runs, stayed within: `percentile(95)`."""
        steps = sorted(step for run in self.runs for step in run.steps)
        return nearest_rank(steps, percent)

    def __str__(self) -> str:
        return say(
            "first token after {first:.1f} ms, then {each:.2f} ms for each (95 % within {late:.2f} ms): "
            "{rate:,.1f} tokens/s",
            first=self.first_token * MILLISECONDS,
            each=self.per_token * MILLISECONDS,
            late=self.percentile(95) * MILLISECONDS,
            rate=self.tokens_per_second,
        )


def nearest_rank(ordered: list[float], percent: float) -> float:
    """The smallest of the `ordered` values that at least `percent` percent of them do not exceed."""
    if not 0 < percent <= 100:
        raise CourseError(say("percentile({percent}): give a number from 1 to 100.", percent=percent))
    for rank, value in enumerate(ordered, start=1):
        if 100 * rank >= percent * len(ordered):
            return value
    raise CourseError(say("No step was measured, so there is no percentile: ask for more new tokens."))


class TokenClock:
    """A streamer for `generate` that keeps when tokens were handed over, and how many."""

    def __init__(self, batch: int, clock: Callable[[], float]):
        self._batch = batch
        self._clock = clock
        self._has_prompt = False
        #: (seconds on the clock, tokens of each sequence)
        self.handed_over: list[tuple[float, int]] = []

    def put(self, tokens) -> None:
        """Take over the prompt, (batch, tokens), then new tokens: (batch,), or guessed ones, (1, tokens)."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        count = tokens.numel() // self._batch
        if count:
            self.handed_over.append((self._clock(), count))

    def end(self) -> None:
        """`generate` calls this at the end."""


def measure(
    model,
    inputs: Mapping,
    *,
    new_tokens: int = 32,
    runs: int = 3,
    warm_up: int = 1,
    before_run: Callable[[], dict] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    **generate_options,
) -> Speed:
    """Let `model` continue `inputs` by exactly `new_tokens` tokens, `runs` times, and return the times.

    `inputs`: what `generate` takes, `input_ids` (batch, tokens) among it, on the model's device. The first
    `warm_up` runs pay for what happens only once and are left out; a compiled model compiles in them.
    `before_run()` is called before each run, outside the measured time, and may return more options for
    `generate`, such as a cache that each run needs anew. Greedy unless `generate_options` say otherwise.

    CourseError for fewer than 2 new tokens or 1 run, for what does not fit into the model's context, for
    options that `generate` refuses, and if the model ended early.
    """
    check_counts(new_tokens, runs, warm_up)
    check_inputs(model, inputs, new_tokens)
    check_options(generate_options)
    # A mapping keeps the order: what the caller gives comes last and wins.
    options = {"do_sample": False, **generate_options}
    options["max_new_tokens"] = new_tokens
    options["min_new_tokens"] = new_tokens
    measured = []
    work = (warm_up + runs) * new_tokens
    for number in with_bar(warm_up + runs, seconds=work * seconds_for_a_pass(model)):
        fresh = {}
        if before_run is not None:
            fresh = before_run()
        run = run_once(model, {**inputs, **options, **fresh}, clock)
        if number >= warm_up:
            measured.append(run)
    batch, prompt_tokens = inputs["input_ids"].shape
    return Speed(batch, prompt_tokens, tuple(measured))


def check_counts(new_tokens: int, runs: int, warm_up: int) -> None:
    """CourseError for numbers with which nothing could be measured."""
    check_whole("new_tokens", new_tokens, least=1)
    check_whole("runs", runs, least=1)
    check_whole("warm_up", warm_up, least=0)
    if new_tokens < 2:
        raise CourseError(
            say(
                "new_tokens={new_tokens}: ask for at least 2, because the time for a token is the time "
                "from one to the next.",
                new_tokens=new_tokens,
            )
        )


def check_inputs(model, inputs: Mapping, new_tokens: int) -> None:
    """CourseError if there is no prompt, or if the model was not made for so many tokens."""
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        raise CourseError(say("There is no prompt to measure with: give inputs with input_ids."))
    ids = inputs["input_ids"]
    if getattr(ids, "ndim", None) != 2 or 0 in ids.shape:
        raise CourseError(
            say(
                "input_ids is no tensor of shape (batch, tokens) with a token in it: let the tokenizer make "
                "it, with return_tensors='pt'."
            )
        )
    prompt = ids.shape[1]
    context = context_tokens(model)
    if context is not None and prompt + new_tokens > context:
        raise CourseError(
            say(
                "The prompt has {prompt:,} tokens and {new:,} new ones are wanted, but the model was made "
                "for {context:,} together: take a shorter prompt, or fewer new tokens.",
                prompt=prompt,
                new=new_tokens,
                context=context,
            )
        )


def check_options(generate_options: dict) -> None:
    """CourseError for an option that `measure` sets itself."""
    for name in OWN:
        if name in generate_options:
            raise CourseError(
                say(
                    "measure decides on {name} itself: leave it out; how many tokens are written says "
                    "new_tokens.",
                    name=name,
                )
            )


def with_bar(count: int, seconds: float):
    """The numbers from 0 to `count`, with a bar where it is expected to take over two seconds.

    Expected, not measured: a notebook shows the same on every run.
    """
    from tqdm.auto import tqdm  # imported late: it takes a moment, and asks which page it draws on

    return tqdm(range(count), desc="runs", leave=False, disable=seconds < SECONDS_WITHOUT_A_BAR)


def run_once(model, options: dict, clock: Callable[[], float]) -> Run:
    """Call `generate` once with the clock as its streamer; CourseError if it refuses, or ends early."""
    import torch  # imported late: it takes seconds

    batch = options["input_ids"].shape[0]
    tokens = TokenClock(batch, clock)
    wait_for_gpus(model)
    start = clock()
    try:
        with torch.inference_mode():
            model.generate(**options, streamer=tokens)
    except OF_OPTIONS as error:
        if tokens.handed_over:
            raise  # it has begun, so the options are not to blame
        raise refused(error) from error
    got = sum(count for _, count in tokens.handed_over)
    wanted = options["max_new_tokens"]
    if got < wanted:
        raise CourseError(
            say(
                "The model ended after {got} of {wanted} tokens: give another prompt.", got=got, wanted=wanted
            )
        )
    times = [seconds for seconds, _ in tokens.handed_over]
    steps = [after - before for before, after in pairwise(times)]
    first_count = tokens.handed_over[0][1]
    return Run(times[0] - start, tuple(steps), max(1, got - first_count))


def wait_for_gpus(model) -> None:
    """Wait until the GPUs have done what was asked of them before, so that it is not counted here."""
    import torch  # imported late: it takes seconds

    for device in {parameter.device for parameter in model.parameters()}:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def compare(ways: Mapping[str, Callable[[], float]], rounds: int = 5, seconds: float = 0) -> dict[str, float]:
    """Call each of `ways` once a round, in turn, and return the median of what each returns, in its order.

    A way does a piece of work and returns a time. In turn, because a computer that is slow for a while is
    then slow for all of them. `seconds`: how long it is expected to take; over two, a bar is shown.
    CourseError without a round, and for a way that returns no number.
    """
    check_whole("rounds", rounds, least=1)
    times = {name: [] for name in ways}
    for _ in with_bar(rounds, seconds):
        for name, way in ways.items():
            time_of_way = way()
            if not isinstance(time_of_way, Real):
                raise CourseError(
                    say(
                        "The way {name} returns {value!r}: let it return the time that it took.",
                        name=name,
                        value=time_of_way,
                    )
                )
            times[name].append(time_of_way)
    return {name: statistics.median(measured) for name, measured in times.items()}
