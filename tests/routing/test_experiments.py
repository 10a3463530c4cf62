"""Experiments fit the model's size, show their progress, and leave the model as it was."""

import pytest
import torch
from tiny_models import make_model, make_prompts

from helpers.routing import busiest_experts, experiments, measure_changes, passes_for


class Parameter:
    """Stands for a tensor of a size that a test cannot hold."""

    def __init__(self, numbers, place):
        self.numbers = numbers
        self.device = torch.device(place)

    def numel(self):
        return self.numbers


class Model:
    """A model that only has a size."""

    def __init__(self, *parameters):
        self.kept = parameters

    def parameters(self):
        return iter(self.kept)


BILLION = 10**9
TOY = Model(Parameter(2_600_000, "cpu"))
TWO_LAYERS = Model(Parameter(1_763_450_880, "cpu"))
REAL_ON_CPU = Model(Parameter(14_315_784_192, "cpu"))
REAL_ON_GPUS = Model(Parameter(7 * BILLION, "cuda:0"), Parameter(7_315_784_192, "cuda:1"))
REAL_SPLIT = Model(Parameter(7 * BILLION, "cuda:0"), Parameter(7_315_784_192, "cpu"))


def test_the_toy_may_do_everything():
    assert passes_for(TOY) > 4 * 16 * 100


def test_a_cut_of_the_real_model_does_what_takes_about_two_minutes():
    """It took 400 s for 240 passes, so 72 in two minutes."""
    assert 50 <= passes_for(TWO_LAYERS) <= 90


def test_the_real_model_does_all_experts_on_gpus_only():
    assert passes_for(REAL_ON_GPUS) >= 4 * 60
    assert passes_for(REAL_ON_CPU) < 10
    assert passes_for(REAL_SPLIT) == passes_for(REAL_ON_CPU)


def test_more_minutes_are_more_passes():
    assert passes_for(TWO_LAYERS, minutes=20) >= 10 * passes_for(TWO_LAYERS) - 10
    assert passes_for(REAL_ON_CPU, minutes=0.01) == 1


def test_busiest_experts():
    counts = [5, 0, 9, 5, 7]
    assert busiest_experts(counts, 2) == [2, 4]
    assert busiest_experts(counts, 3) == [0, 2, 4]  # of two with as many tokens, the first
    assert busiest_experts(counts, 99) == [0, 1, 2, 3, 4]
    assert busiest_experts(counts, 0) == [2]


def zero(layer, experts, weights):
    return weights * 0


def same(layer, experts, weights):
    return weights


@torch.no_grad()
def test_each_change_is_measured(no_hook_left, capfd):
    model = make_model()
    ids = torch.tensor(make_prompts(1, batch=1))
    plain = model(ids).logits
    results = measure_changes(model, {"same": same, "zero": zero}, lambda: model(ids).logits)
    assert list(results) == ["same", "zero"]
    assert torch.equal(results["same"], plain)
    assert not torch.equal(results["zero"], plain)
    assert torch.equal(model(ids).logits, plain)
    assert capfd.readouterr().err == ""  # too quick for a bar


def test_a_bar_where_it_takes_long(monkeypatch, capfd):
    monkeypatch.setattr(experiments, "seconds_for_a_pass", lambda model: 10)
    measure_changes(make_model(), {"same": same}, lambda: 0)
    assert "changed models" in capfd.readouterr().err


def test_an_interrupt_leaves_no_change(no_hook_left):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_changes(make_model(), {"zero": zero}, interrupt)
