"""Every mixture of experts of transformers: its routing is recorded as computed by hand, or refused."""

import inspect
import sys

import numpy as np
import pytest
import torch
import transformers
from architectures import COMPOSITE, MODELS, REFUSED, build, make
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from helpers import CourseError
from helpers.routing import RoutingRecorder, change_weights, find_routers

PROMPT = [20, 21, 22, 23, 24]


def clear_choices(router):
    """Large numbers in the router's matrix, so that no two experts are nearly equal."""
    for parameter in router.module.parameters():
        if parameter.ndim == 2 and len(parameter) > 1:
            torch.nn.init.normal_(parameter, std=0.3)


def run(model):
    """A prompt and three tokens after it, as `generate` runs them or, without a head, pass by pass."""
    if model.can_generate():
        plain_words = {"suppress_tokens": list(range(10))}  # a padding token is a hidden state of zeros
        model.generate(
            torch.tensor([PROMPT]), max_new_tokens=4, min_new_tokens=4, do_sample=False, **plain_words
        )
        return
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([PROMPT])).past_key_values
        for token in (30, 31, 32):
            model(input_ids=torch.tensor([[token]]), past_key_values=cache)


def watch(routers):
    """What each router is given in every pass, by layer."""
    given = {router.layer: [] for router in routers}
    for router in routers:
        keep = given[router.layer].append
        router.module.register_forward_pre_hook(lambda module, args, keep=keep: keep(args))
    return given


@pytest.mark.parametrize("name", MODELS)
def test_the_recording_equals_the_router_by_hand(name):
    rule, settings = MODELS[name]
    model = make(name, settings)
    routers = find_routers(model)
    for router in routers:
        clear_choices(router)
    given = watch(routers)
    with RoutingRecorder(model) as recorder:
        run(model)
    routing = recorder.routing
    assert routing.position.tolist() == list(range(len(PROMPT) + 3))
    assert routing.decode.tolist() == [False] * len(PROMPT) + [True] * 3
    assert routing.layers.tolist() == list(given)
    for place, router in enumerate(routers):
        chosen = [
            rule.choose(router.module, arguments, model.config.get_text_config())
            for arguments in given[router.layer]
        ]
        experts = np.concatenate([experts for experts, _ in chosen])
        weights = np.concatenate([weights for _, weights in chosen])
        by_weight = np.argsort(-weights, axis=-1)  # largest weight first
        experts = np.take_along_axis(experts, by_weight, axis=-1)
        weights = np.take_along_axis(weights, by_weight, axis=-1)
        assert routing.experts[:, place].tolist() == experts.tolist()
        assert np.abs(routing.weights[:, place] - weights).max() < 1e-5


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_weights_can_be_changed(name):
    model = make(name, MODELS[name][1])
    for router in find_routers(model):
        clear_choices(router)
    ids = torch.tensor([PROMPT])
    plain = model(input_ids=ids)[0]  # logits, or hidden states without a head
    with change_weights(model, lambda layer, experts, weights: weights):
        same = model(input_ids=ids)[0]
    with change_weights(model, lambda layer, experts, weights: weights * 0):
        without = model(input_ids=ids)[0]
    assert torch.equal(plain, same)
    assert not torch.equal(plain, without)


@pytest.mark.parametrize("name", REFUSED)
def test_the_refusal_says_why(name):
    settings, sentence = REFUSED[name]
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = build(name, {**sizes, **settings})
    with pytest.raises(CourseError, match=sentence):
        RoutingRecorder(model)


def mixtures_of_experts():
    """The model types for text whose module names router logits among its outputs."""
    found = []
    for name, class_name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        if name not in CONFIG_MAPPING:
            continue
        module = sys.modules[getattr(transformers, class_name).__module__]
        if '"router_logits": ' in inspect.getsource(module):
            found.append(name)
    return found


def test_no_mixture_of_experts_is_forgotten():
    known = [*MODELS, *REFUSED, *COMPOSITE]
    found = mixtures_of_experts()
    assert len(found) > 50
    assert [name for name in found if name not in known] == []
