"""What routers return is read rightly or refused, and changed weights change what they should."""

import numpy as np
import pytest
import torch
from tiny_models import make_model, make_prompts

from helpers import CourseError
from helpers.routing import RoutingRecorder, change_weights, find_routers
from helpers.routing.routers import Router

ROUTER = Router(layer=0, module=torch.nn.Identity(), logits_index=0)
LOGITS = torch.tensor([[0.0, 1.0, 2.0]])
WEIGHTS = torch.tensor([[0.7, 0.3]])
EXPERTS = torch.tensor([[2, 1]])


def test_routers_are_found_in_the_order_of_the_layers():
    model = make_model("mixtral")
    routers = find_routers(model)
    assert [router.layer for router in routers] == [0, 1, 2]
    for router in routers:
        assert router.module is model.model.layers[router.layer].mlp.gate


@pytest.mark.parametrize("output", [(LOGITS, WEIGHTS, EXPERTS), (LOGITS, EXPERTS, WEIGHTS)])
def test_weights_and_experts_are_told_apart(output):
    read = ROUTER.read(output)
    assert read.logits is LOGITS
    assert read.weights is WEIGHTS
    assert read.experts is EXPERTS


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, WEIGHTS),
        (LOGITS, WEIGHTS, WEIGHTS),
        (LOGITS, WEIGHTS, EXPERTS, EXPERTS),
        (LOGITS, WEIGHTS, EXPERTS[:, :1]),
    ],
    ids=["logits only", "no experts", "weights twice", "experts twice", "another shape"],
)
def test_other_outputs_are_refused(output):
    with pytest.raises(CourseError, match=r"The router Identity returned \[\(1, 3\).*use another model"):
        ROUTER.read(output)


@torch.no_grad()
def test_silencing_changes_only_the_tokens_that_chose_the_expert(no_hook_left):
    model = make_model()
    block = model.model.layers[0].mlp
    ids = torch.tensor(make_prompts(6, 1))
    outputs = []  # of the block, (tokens, hidden) for each pass
    handle = block.register_forward_hook(lambda module, args, output: outputs.append(output[0]))
    with RoutingRecorder(model) as recorder:
        model(ids)
    first_layer = recorder.routing.experts[:, 0]  # (tokens, k)
    expert = int(np.bincount(first_layer.ravel()).argmax())

    def silence(layer, experts, weights):
        return weights.masked_fill((experts == expert) & (layer == 0), 0)

    with change_weights(model, silence):
        model(ids)
    handle.remove()
    changed = (outputs[0] != outputs[1]).any(-1).numpy()
    chose = (first_layer == expert).any(-1)
    assert 0 < chose.sum() < len(chose)
    assert (changed == chose).all()


def only_the_first(layer, experts, weights):
    return weights * torch.tensor([1.0, 0, 0])


@torch.no_grad()
def test_weights_of_the_first_expert_only_equal_top_1():
    model = make_model()
    ids = torch.tensor(make_prompts(7, 1))
    with change_weights(model, only_the_first):
        masked = model(ids).logits
    for layer in model.model.layers:
        layer.mlp.gate.top_k = 1
    assert torch.allclose(masked, model(ids).logits, atol=1e-6)


@torch.no_grad()
def test_weights_of_zero_leave_only_the_shared_expert():
    model = make_model()
    ids = torch.tensor(make_prompts(7, 1))
    with change_weights(model, lambda layer, experts, weights: weights * 0):
        without = model(ids).logits
    for layer in model.model.layers:
        layer.mlp.experts.down_proj.zero_()
    assert torch.allclose(without, model(ids).logits, atol=1e-6)
