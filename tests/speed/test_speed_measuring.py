"""`measure` on a clock and a model that do what the test says, then on the embedded model."""

import pytest
import torch
from transformers import PretrainedConfig

from helpers import CourseError
from helpers.speed import compare, measure
from helpers.speed.measuring import nearest_rank

PROMPT = {"input_ids": torch.ones(1, 7, dtype=torch.long)}


class FakeModel(torch.nn.Module):
    """Moves a clock instead of computing: `script` has, for each run, the hand-overs (seconds, tokens)."""

    def __init__(self, script, last_token=None):
        super().__init__()
        self.config = PretrainedConfig()  # says nothing of a context
        self.script = list(script)
        self.now = 100.0
        self.options = []

    def clock(self):
        return self.now

    def generate(self, *, streamer, input_ids, **options):
        self.options.append(options)
        streamer.put(input_ids)
        for seconds, tokens in self.script.pop(0):
            self.now += seconds
            streamer.put(tokens)
        streamer.end()


def steady(first, each, new_tokens, batch=1):
    """A run with one token for each sequence at a time."""
    token = torch.zeros(batch, dtype=torch.long)
    return [(first, token)] + [(each, token)] * (new_tokens - 1)


def measured(script, inputs=PROMPT, **options):
    model = FakeModel(script)
    return measure(model, inputs, clock=model.clock, **options), model


def test_first_token_and_later_ones_are_told_apart():
    speed, _ = measured([steady(0.5, 0.25, 5)], new_tokens=5, runs=1, warm_up=0)
    assert speed.first_token == 0.5
    assert speed.per_token == 0.25
    assert speed.tokens_per_second == 4
    assert speed.prompt_tokens == 7


def test_warm_up_runs_do_not_count():
    script = [steady(64, 32, 3), steady(0.5, 0.25, 3), steady(0.5, 0.25, 3)]
    speed, _ = measured(script, new_tokens=3, runs=2, warm_up=1)
    assert len(speed.runs) == 2
    assert speed.first_token == 0.5
    assert speed.percentile(100) == 0.25


def test_the_median_of_the_runs_counts():
    script = [steady(1, 2, 3), steady(4, 8, 3), steady(64, 64, 3)]
    speed, _ = measured(script, new_tokens=3, runs=3, warm_up=0)
    assert speed.first_token == 4
    assert speed.per_token == 8


def test_a_batch_counts_the_tokens_of_all_sequences():
    inputs = {"input_ids": torch.ones(4, 7, dtype=torch.long)}
    speed, _ = measured([steady(1, 0.5, 3, batch=4)], inputs, new_tokens=3, runs=1, warm_up=0)
    assert speed.per_token == 0.5
    assert speed.tokens_per_second == 8


def test_guessed_tokens_come_several_at_once():
    run = [(1, torch.zeros(1, 1)), (1, torch.zeros(1, 3)), (1, torch.zeros(1, 0)), (2, torch.zeros(1, 5))]
    speed, _ = measured([run], new_tokens=9, runs=1, warm_up=0)
    assert speed.per_token == 4 / 8
    assert speed.runs[0].steps == (1, 3)


def test_the_options_reach_generate():
    calls = iter([{"past_key_values": "first"}, {"past_key_values": "second"}])
    script = [steady(1, 1, 4)] * 2
    _, model = measured(script, new_tokens=4, runs=1, warm_up=1, before_run=lambda: next(calls), top_k=3)
    lengths = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "top_k": 3}
    assert model.options == [
        {**lengths, "past_key_values": "first"},
        {**lengths, "past_key_values": "second"},
    ]


def test_what_happens_before_a_run_is_not_measured():
    model = FakeModel([steady(1, 1, 2)])

    def slow():
        model.now += 1000
        return {}

    speed = measure(model, PROMPT, new_tokens=2, runs=1, warm_up=0, before_run=slow, clock=model.clock)
    assert speed.first_token == 1


def test_the_sentence():
    speed, _ = measured([steady(0.5, 0.25, 3)], new_tokens=3, runs=1, warm_up=0)
    assert str(speed) == (
        "first token after 500.0 ms, then 250.00 ms for each (95 % within 250.00 ms): 4.0 tokens/s"
    )


@pytest.mark.parametrize("percent, value", [(1, 1), (25, 1), (26, 2), (50, 2), (95, 4), (100, 4)])
def test_percentiles_are_values_that_were_measured(percent, value):
    assert nearest_rank([1, 2, 3, 4], percent) == value


@pytest.mark.parametrize(
    "options, words",
    [
        ({"new_tokens": 1}, "at least 2"),
        ({"new_tokens": 2.5}, r"^new_tokens is 2\.5: give a whole number"),
        ({"runs": 0}, "^runs is 0: give a whole number from 1 on"),
        ({"runs": "3"}, "^runs is '3': give a whole number"),
        ({"warm_up": -1}, "^warm_up is -1: give a whole number from 0 on"),
        ({"max_new_tokens": 5}, "decides on max_new_tokens itself"),
        ({"streamer": None}, "decides on streamer itself"),
        ({"num_return_sequences": 2}, "decides on num_return_sequences itself"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, words):
    with pytest.raises(CourseError, match=words):
        measured([], **options)


@pytest.mark.parametrize("inputs", [{"attention_mask": torch.ones(1, 7)}, torch.ones(1, 7), "What?"])
def test_inputs_without_ids_are_refused(inputs):
    with pytest.raises(CourseError, match="There is no prompt"):
        measured([], inputs)


@pytest.mark.parametrize("ids", [[[1, 2]], torch.ones(7), torch.ones(1, 0)])
def test_ids_that_are_no_prompt_are_refused(ids):
    with pytest.raises(CourseError, match=r"no tensor of shape \(batch, tokens\)"):
        measured([], {"input_ids": ids})


def test_a_model_that_ends_early_is_refused():
    with pytest.raises(CourseError, match="after 3 of 5 tokens"):
        measured([steady(1, 1, 3)], new_tokens=5, runs=1, warm_up=0)


@pytest.mark.parametrize("percent", [0, 101, -5])
def test_an_impossible_percentile_is_refused(percent):
    with pytest.raises(CourseError, match="from 1 to 100"):
        nearest_rank([1, 2], percent)


def test_compare_takes_turns_and_the_median():
    order = []
    times = {"a": [1, 9, 2], "b": [4, 5, 60]}

    def way(name):
        def work():
            order.append(name)
            return times[name].pop(0)

        return work

    assert compare({"a": way("a"), "b": way("b")}, rounds=3) == {"a": 2, "b": 5}
    assert order == ["a", "b"] * 3


def test_no_round_and_no_time_are_refused():
    with pytest.raises(CourseError, match="rounds is 0"):
        compare({}, rounds=0)
    with pytest.raises(CourseError, match="The way a returns None: let it return the time"):
        compare({"a": lambda: None})


@pytest.mark.parametrize("batch", [1, 3])
def test_the_embedded_model_is_measured(toy, batch):
    model, tokenizer = toy
    inputs = tokenizer(["What is a token?"] * batch, return_tensors="pt")
    speed = measure(model, inputs, new_tokens=6, runs=2)
    assert speed.batch == batch
    assert all(run.later_tokens == 5 and len(run.steps) == 5 for run in speed.runs)
    assert all(step > 0 for run in speed.runs for step in run.steps)


def test_guessed_tokens_of_the_embedded_model_are_counted(toy):
    model, tokenizer = toy
    inputs = tokenizer(["one two three one two three one two three one two"], return_tensors="pt")
    speed = measure(model, inputs, new_tokens=12, runs=1, warm_up=0, prompt_lookup_num_tokens=3)
    run = speed.runs[0]
    assert run.later_tokens <= 12
    assert len(run.steps) <= run.later_tokens


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_beams": 2}, r"generate refuses these options \(`streamer` cannot be used with beam search"),
        ({"tempratur": 1}, r"generate refuses these options \(.*tempratur"),
        ({"do_sample": True, "temperature": 0.0}, r"generate refuses these options \(`temperature`"),
        ({"new_tokens": 2044}, "5 tokens and 2,044 new ones are wanted, .* for 2,048 together"),
    ],
)
def test_what_the_embedded_model_does_not_take(toy, options, words):
    model, tokenizer = toy
    inputs = tokenizer(["What is a token?"], return_tensors="pt")
    with pytest.raises(CourseError, match=words):
        measure(model, inputs, runs=1, **options)
