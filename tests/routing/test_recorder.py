"""The recorder against an independent computation, on tiny random models of four architectures."""

import numpy as np
import pytest
import torch
import transformers
from accelerate import dispatch_model
from tiny_models import (
    END,
    NAMES,
    NUM_EXPERTS,
    SIZES,
    assert_routing_of,
    generated_tokens,
    make_model,
    make_prompts,
    pad,
    reference,
    sample,
)

from helpers import CourseError
from helpers.routing import RoutingRecorder, change_weights, recorder


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", NAMES)
def test_plain_passes_against_the_hidden_states(name, seed):
    model = make_model(name, seed)
    prompts = make_prompts(seed, batch=1 + seed % 4)
    for side in ("left", "right"):
        with torch.no_grad(), RoutingRecorder(model) as recorder:
            model(**pad(prompts, side))
        assert_routing_of(model, recorder.routing, prompts)
        assert not recorder.routing.decode.any()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_generate_against_the_hidden_states(name, seed):
    model = make_model(name, seed)
    prompts = make_prompts(seed, batch=1 + seed % 4)
    with RoutingRecorder(model) as recorder:
        output = sample(model, prompts)
    sequences = generated_tokens(output, prompts)
    assert_routing_of(model, recorder.routing, sequences)
    decode = []
    for prompt, sequence in zip(prompts, sequences, strict=True):
        decode += [place >= len(prompt) for place in range(len(sequence))]
    assert recorder.routing.decode.tolist() == decode


@pytest.mark.parametrize("name", NAMES)
def test_a_prefill_in_chunks(name):
    model = make_model(name)
    prompts = make_prompts(1, batch=2)
    with RoutingRecorder(model) as recorder:
        output = sample(model, prompts, prefill_chunk_size=3)
    assert_routing_of(model, recorder.routing, generated_tokens(output, prompts))


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_router_logits_of_transformers(name):
    model = make_model(name)
    ids = torch.tensor(make_prompts(1, batch=1))
    with torch.no_grad(), RoutingRecorder(model, keep_logits=True) as recorder:
        logits = model(ids, output_router_logits=True).router_logits
    logits = torch.stack(logits, 1)  # (tokens, layers, experts)
    chosen = logits.softmax(-1).topk(3).indices
    assert (recorder.routing.logits == logits.numpy()).all()
    assert (recorder.routing.experts == chosen.numpy()).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_are_the_same_bit_for_bit(name, dtype):
    model = make_model(name).to(dtype)
    prompts = make_prompts(2, batch=3)
    options = {"output_logits": True, "return_dict_in_generate": True}
    torch.manual_seed(7)
    plain = sample(model, prompts, **options)
    torch.manual_seed(7)
    with RoutingRecorder(model):
        recorded = sample(model, prompts, **options)
    assert torch.equal(plain.sequences, recorded.sequences)
    for plain_logits, recorded_logits in zip(plain.logits, recorded.logits, strict=True):
        assert torch.equal(plain_logits, recorded_logits)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_hook_and_keeps_the_finished_passes(error, no_hook_left):
    model = make_model()
    passes = []

    def fail_in_the_third_pass(module, args):
        passes.append(module)
        if len(passes) == 3:
            raise error

    handle = model.model.layers[1].register_forward_pre_hook(fail_in_the_third_pass)
    with pytest.raises(error), RoutingRecorder(model) as recorder:
        model.generate(torch.tensor([[20, 21, 22]]), max_new_tokens=6, min_new_tokens=6)
    handle.remove()
    assert len(recorder.routing.token_id) == 3 + 1  # the prefill and the first decode step


def unchanged(model):
    return change_weights(model, lambda layer, experts, weights: weights)


@pytest.mark.parametrize("with_hooks", [RoutingRecorder, unchanged])
def test_an_interrupt_while_hooks_are_set_leaves_none(with_hooks, monkeypatch, no_hook_left):
    model = make_model()

    def interrupt(hook):
        raise KeyboardInterrupt

    last = model.model.layers[2].mlp.gate
    monkeypatch.setattr(last, "register_forward_hook", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt), with_hooks(model):
        pass


@torch.no_grad()
def test_two_chats_continued_from_their_caches():
    model = make_model("qwen3_moe")
    one = [20, 21, 22, 23]
    two = [25, 26]
    with RoutingRecorder(model) as recorder:
        cache_one = model(torch.tensor([one])).past_key_values
        cache_two = model(torch.tensor([two])).past_key_values
        model(torch.tensor([[30]]), past_key_values=cache_one)
        model(torch.tensor([[40, 41]]), past_key_values=cache_two)
        model(torch.tensor([[31]]), past_key_values=cache_one)
    sequences = [[*one, 30, 31], [*two, 40, 41]]
    assert_routing_of(model, recorder.routing, sequences)
    assert recorder.routing.decode.sum() == 2


@torch.no_grad()
def test_a_chat_that_began_before_the_recording():
    model = make_model("olmoe")
    cache = model(torch.tensor([[20, 21, 22]])).past_key_values
    with RoutingRecorder(model) as recorder:
        model(torch.tensor([[30, 31]]), past_key_values=cache)
    assert recorder.routing.position.tolist() == [3, 4]
    experts, _ = reference(model, [20, 21, 22, 30, 31])
    assert (recorder.routing.experts == experts[3:]).all()


def test_generate_continues_a_left_padded_batch():
    model = make_model(eos_token_id=None)
    prompts = make_prompts(8, batch=3)
    inputs = pad(prompts)
    with RoutingRecorder(model) as recorder:
        first = model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True)
        asked = torch.full((3, 2), 33)
        more = torch.full((3, 4 + 2), 1)
        mask = torch.cat([inputs["attention_mask"], more], 1)
        output = model.generate(
            torch.cat([first.sequences, asked], 1),
            attention_mask=mask,
            past_key_values=first.past_key_values,
            max_new_tokens=4,
        )
    width = inputs["input_ids"].shape[1]
    sequences = []
    for prompt, row in zip(prompts, output.tolist(), strict=True):
        sequences.append(prompt + row[width:-1])
    assert not set(END) & {token for sequence in sequences for token in sequence}
    assert_routing_of(model, recorder.routing, sequences)


def test_a_sliding_window():
    model = make_model("mixtral", sliding_window=5)
    prompts = make_prompts(5, batch=1)
    with RoutingRecorder(model) as recorder:
        output = sample(model, prompts)
    assert_routing_of(model, recorder.routing, generated_tokens(output, prompts))


def test_dense_layers_between():
    model = make_model(decoder_sparse_step=2)
    prompts = make_prompts(5, batch=1)
    with torch.no_grad(), RoutingRecorder(model) as recorder:
        model(torch.tensor(prompts))
    assert recorder.routing.layers.tolist() == [1]
    assert_routing_of(model, recorder.routing, prompts)


@torch.no_grad()
def test_shared_expert_gate():
    model = make_model()
    block = model.model.layers[1].mlp
    seen = []
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with RoutingRecorder(model) as recorder:
        model(torch.tensor([[20, 21, 22]]))
    handle.remove()
    hidden = seen[0][0]  # (tokens, hidden)
    gate = torch.sigmoid(hidden @ block.shared_expert_gate.weight.T)[:, 0]
    assert recorder.routing.shared_gate.shape == (3, 3)
    assert np.allclose(recorder.routing.shared_gate[:, 1], gate.numpy(), atol=1e-6)


@torch.no_grad()
def test_without_a_shared_expert():
    model = make_model("qwen3_moe")
    with RoutingRecorder(model) as recorder:
        model(torch.tensor([[20]]))
    assert recorder.routing.shared_gate is None


@pytest.mark.parametrize("name", NAMES)
def test_counting_equals_recording(name):
    model = make_model(name)
    full = RoutingRecorder(model)
    counting = RoutingRecorder(model, counts_only=True)
    with full, counting:
        for seed in range(4):
            torch.manual_seed(seed)
            sample(model, make_prompts(seed, batch=3))
    counts = []
    for layer in full.routing.experts.swapaxes(0, 1):
        count = np.bincount(layer.ravel(), minlength=NUM_EXPERTS)
        counts.append(count.tolist())
    assert counting.counts.tolist() == counts
    with pytest.raises(CourseError, match="counts_only"):
        counting.routing  # noqa: B018


def test_memory_is_as_stated(monkeypatch):
    model = make_model().to(torch.bfloat16)
    passes = []
    monkeypatch.setattr(recorder, "join_passes", lambda kept, layers: passes.extend(kept))
    with torch.no_grad(), RoutingRecorder(model):
        model(torch.full((2, 50), 20))
    sizes = {}  # bytes a token
    for name, tensor in passes[0].items():
        sizes[name] = tensor.untyped_storage().nbytes() / 100
    layers = 3
    k = 3
    assert sizes.pop("experts") + sizes.pop("weights") == layers * k * (2 + 2)
    assert sizes.pop("shared_gate") == layers * 2
    assert sum(sizes.values()) == 18


def test_layers_on_the_cpu_and_on_the_disk(tmp_path):
    places = {
        "model.embed_tokens": "cpu",
        "model.layers.0": "cpu",
        "model.layers.1": "disk",
        "model.layers.2": "cpu",
        "model.norm": "cpu",
        "model.rotary_emb": "cpu",
        "lm_head": "cpu",
    }
    prompts = make_prompts(9, 3)
    model = dispatch_model(make_model(), places, main_device="cpu", offload_dir=str(tmp_path))
    with RoutingRecorder(model) as recorder:
        output = sample(model, prompts)
    assert_routing_of(make_model(), recorder.routing, generated_tokens(output, prompts))


def test_a_model_without_router():
    dense = transformers.AutoModelForCausalLM.from_config(transformers.Qwen2Config(**SIZES))
    with pytest.raises(CourseError, match="Qwen2ForCausalLM has no router"):
        RoutingRecorder(dense)


def test_a_static_cache():
    model = make_model()
    with pytest.raises(CourseError, match="static cache"), RoutingRecorder(model):
        sample(model, [[20, 21]], cache_implementation="static")


def test_a_block_in_which_nothing_ran():
    with RoutingRecorder(make_model()) as recorder:
        pass
    with pytest.raises(CourseError, match="run the model inside the with block"):
        recorder.routing  # noqa: B018
