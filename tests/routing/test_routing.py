"""The recorder against an independent computation, on tiny random models of four architectures."""

import numpy as np
import pytest
import torch
import transformers
from accelerate import dispatch_model

from helpers import CourseError
from helpers.routing import Routing, RoutingRecorder, change_weights, token_strip

torch.set_num_threads(1)
PAD, END, FIRST_WORD, VOCABULARY = 0, [0, 1, 2, 3, 4], 10, 60  # padding is an end token, as in Qwen
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 3,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "bos_token_id": 6,
}
SMALL_EXPERTS = {"num_experts": 12, "moe_intermediate_size": 16}
CONFIGS = {
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
        **SIZES, **SMALL_EXPERTS, shared_expert_intermediate_size=16
    ),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **SIZES, **SMALL_EXPERTS, head_dim=8, norm_topk_prob=True
    ),
    "mixtral": lambda: transformers.MixtralConfig(**SIZES, num_local_experts=12, sliding_window=None),
    "olmoe": lambda: transformers.OlmoeConfig(**SIZES, num_experts=12),
}


def make_model(name, seed=0, **changes):
    config = CONFIGS[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for layer in model.model.layers:
        if hasattr(layer.mlp, "gate"):
            torch.nn.init.normal_(layer.mlp.gate.weight, std=0.3)  # clear choices, no near ties
    return model


def make_prompts(seed, batch):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 12, batch)
    return [rng.integers(FIRST_WORD, VOCABULARY, n).tolist() for n in lengths]


def pad(prompts, side):
    length = max(map(len, prompts))
    ids, mask = [], []
    for prompt in prompts:
        gap = length - len(prompt)
        before, after = (gap, 0) if side == "left" else (0, gap)
        ids.append([PAD] * before + prompt + [PAD] * after)
        mask.append([0] * before + [1] * len(prompt) + [0] * after)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@torch.no_grad()
def reference(model, tokens):
    """Experts and weights (tokens, layers, k) of one sequence: NumPy, from the input of the MoE blocks."""
    seen = {}
    moe_layers = [layer for layer in model.model.layers if hasattr(layer.mlp, "gate")]
    hooks = [
        layer.post_attention_layernorm.register_forward_hook(
            lambda module, args, output, layer=layer: seen.update({layer: output[0].double().numpy()})
        )
        for layer in moe_layers
    ]
    model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    experts, weights = [], []
    for layer in moe_layers:
        scores = seen[layer] @ layer.mlp.gate.weight.double().numpy().T
        probabilities = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        chosen = np.argsort(-probabilities)[:, : model.config.num_experts_per_tok]
        weight = np.take_along_axis(probabilities, chosen, axis=-1)
        if getattr(model.config, "norm_topk_prob", True):  # Mixtral always normalises
            weight /= weight.sum(-1, keepdims=True)
        experts.append(chosen)
        weights.append(weight)
    return np.stack(experts, 1), np.stack(weights, 1)


def assert_routing_of(model, routing, sequences):
    assert sorted(set(routing.sequence.tolist())) == list(range(len(sequences)))
    for number, tokens in enumerate(sequences):
        mine = routing.sequence == number
        experts, weights = reference(model, tokens)
        assert routing.token_id[mine].tolist() == tokens
        assert routing.position[mine].tolist() == list(range(len(tokens)))
        assert (routing.experts[mine] == experts).all()
        assert np.abs(routing.weights[mine] - weights).max() < 1e-6


def generated_tokens(output, prompts):
    """What the model read of each sequence: all but the last new token, up to and without an end token."""
    width = max(map(len, prompts))
    sequences = []
    for row, prompt in zip(output.tolist(), prompts, strict=True):
        new = row[width:-1]
        stop = next((i for i, token in enumerate(new) if token in END), len(new))
        sequences.append(prompt + new[:stop])
    return sequences


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", CONFIGS)
def test_against_the_hidden_states(name, seed):
    model = make_model(name, seed)
    prompts = make_prompts(seed, batch=1 + seed % 4)
    for side in ("left", "right"):
        with torch.no_grad(), RoutingRecorder(model) as recorder:
            model(**pad(prompts, side))
        assert_routing_of(model, recorder.routing, prompts)
        assert not recorder.routing.decode.any()

    chunks = {"prefill_chunk_size": 3} if seed % 2 else {}
    with RoutingRecorder(model) as recorder:
        output = model.generate(**pad(prompts, "left"), do_sample=True, max_new_tokens=8, **chunks)
    sequences = generated_tokens(output, prompts)
    assert_routing_of(model, recorder.routing, sequences)
    if not chunks:
        expected = [i >= len(p) for p, s in zip(prompts, sequences, strict=True) for i in range(len(s))]
        assert recorder.routing.decode.tolist() == expected


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_router_logits_of_transformers(name):
    model = make_model(name)
    inputs = {"input_ids": torch.tensor(make_prompts(1, batch=1))}
    with torch.no_grad(), RoutingRecorder(model, keep_logits=True) as recorder:
        logits = model(**inputs, output_router_logits=True).router_logits
    logits = torch.stack(logits, 1)
    assert (recorder.routing.logits == logits.numpy()).all()
    assert (recorder.routing.experts == logits.softmax(-1).topk(3).indices.numpy()).all()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_are_the_same_bit_for_bit(name, dtype):
    model = make_model(name).to(dtype)
    inputs = pad(make_prompts(2, batch=3), "left")
    options = {"do_sample": True, "max_new_tokens": 6, "output_logits": True, "return_dict_in_generate": True}
    torch.manual_seed(7)
    plain = model.generate(**inputs, **options)
    torch.manual_seed(7)
    with RoutingRecorder(model):
        recorded = model.generate(**inputs, **options)
    assert torch.equal(plain.sequences, recorded.sequences)
    assert all(torch.equal(a, b) for a, b in zip(plain.logits, recorded.logits, strict=True))


def hooks_of(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_hook_and_keeps_the_finished_passes(error):
    model = make_model("qwen2_moe")
    before = hooks_of(model)
    passes = []

    def fail(module, args):
        passes.append(module)
        if len(passes) == 3:
            raise error

    with pytest.raises(error), RoutingRecorder(model) as recorder:
        handle = model.model.layers[1].register_forward_pre_hook(fail)
        try:
            model.generate(torch.tensor([[20, 21, 22]]), max_new_tokens=6, min_new_tokens=6)
        finally:
            handle.remove()
    assert hooks_of(model) == before
    assert len(recorder.routing.token_id) == 3 + 1  # the prefill and the first decode step


def test_an_interrupt_while_hooks_are_set_leaves_none(monkeypatch):
    model = make_model("qwen2_moe")
    before = hooks_of(model)
    monkeypatch.setattr(
        model.model.layers[2].mlp.gate, "register_forward_hook", lambda hook: 1 / 0, raising=False
    )
    for manager in (RoutingRecorder(model), change_weights(model, lambda layer, experts, weights: weights)):
        with pytest.raises(ZeroDivisionError), manager:
            pass
        assert hooks_of(model) == before


@torch.no_grad()
def test_two_chats_continued_from_their_caches():
    model = make_model("qwen3_moe")
    one, two = make_prompts(3, batch=2)
    with RoutingRecorder(model) as recorder:
        cache_one = model(torch.tensor([one])).past_key_values
        cache_two = model(torch.tensor([two])).past_key_values
        model(torch.tensor([[30]]), past_key_values=cache_one)
        model(torch.tensor([[40, 41]]), past_key_values=cache_two)
        model(torch.tensor([[31]]), past_key_values=cache_one)
    assert_routing_of(model, recorder.routing, [[*one, 30, 31], [*two, 40, 41]])
    assert recorder.routing.decode.sum() == 2


@torch.no_grad()
def test_a_chat_that_began_before_the_recording():
    model = make_model("olmoe")
    cache = model(torch.tensor([[20, 21, 22]])).past_key_values
    with RoutingRecorder(model) as recorder:
        model(torch.tensor([[30, 31]]), past_key_values=cache)
    assert recorder.routing.position.tolist() == [3, 4]
    assert (recorder.routing.experts == reference(model, [20, 21, 22, 30, 31])[0][3:]).all()


def test_generate_continues_a_left_padded_batch():
    model = make_model("qwen2_moe")
    model.generation_config.eos_token_id = None
    prompts = make_prompts(8, batch=3)
    inputs = pad(prompts, "left")
    with RoutingRecorder(model) as recorder:
        first = model.generate(**inputs, max_new_tokens=4, return_dict_in_generate=True, do_sample=True)
        more = torch.cat([first.sequences, torch.full((3, 2), 33)], 1)
        mask = torch.cat([inputs["attention_mask"], torch.ones(3, 6, dtype=torch.long)], 1)
        output = model.generate(
            more, attention_mask=mask, past_key_values=first.past_key_values, max_new_tokens=4
        )
    width = inputs["input_ids"].shape[1]
    new = output[:, width:-1].tolist()
    sequences = [p + n for p, n in zip(prompts, new, strict=True)]
    if not any(set(END) | {PAD} & set(n) for n in new):
        assert_routing_of(model, recorder.routing, sequences)


def test_sliding_window_and_dense_layers():
    model = make_model("mixtral", sliding_window=5)
    with RoutingRecorder(model) as recorder:
        output = model.generate(torch.tensor(make_prompts(5, 1)), do_sample=True, max_new_tokens=9)
    assert_routing_of(model, recorder.routing, generated_tokens(output, make_prompts(5, 1)))

    model = make_model("qwen2_moe", decoder_sparse_step=2)
    with torch.no_grad(), RoutingRecorder(model) as recorder:
        model(torch.tensor(make_prompts(5, 1)))
    assert recorder.routing.layers.tolist() == [1]
    assert_routing_of(model, recorder.routing, make_prompts(5, 1))


@torch.no_grad()
def test_shared_expert_gate():
    model = make_model("qwen2_moe")
    seen = []
    block = model.model.layers[1].mlp
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with RoutingRecorder(model) as recorder:
        model(torch.tensor([[20, 21, 22]]))
    handle.remove()
    gate = torch.sigmoid(seen[0][0] @ block.shared_expert_gate.weight.T)[:, 0]
    assert recorder.routing.shared_gate.shape == (3, 3)
    assert np.allclose(recorder.routing.shared_gate[:, 1], gate.numpy(), atol=1e-6)
    with RoutingRecorder(make_model("qwen3_moe")) as recorder:
        recorder.model(torch.tensor([[20]]))
    assert recorder.routing.shared_gate is None


@pytest.mark.parametrize("name", CONFIGS)
def test_counting_equals_recording(name):
    model = make_model(name)
    full, counting = RoutingRecorder(model), RoutingRecorder(model, counts_only=True)
    with full, counting:
        for seed in range(4):
            torch.manual_seed(seed)
            model.generate(**pad(make_prompts(seed, 3), "left"), do_sample=True, max_new_tokens=6)
    layers = full.routing.experts.swapaxes(0, 1)
    assert counting.counts.tolist() == [np.bincount(x.ravel(), minlength=12).tolist() for x in layers]
    with pytest.raises(CourseError, match="counts_only"):
        counting.routing  # noqa: B018


def test_memory_is_as_stated():
    model = make_model("qwen2_moe").to(torch.bfloat16)
    with torch.no_grad(), RoutingRecorder(model) as recorder:
        model(torch.full((2, 50), 20))
        sizes = {name: t.untyped_storage().nbytes() / 100 for name, t in recorder._passes[0].items()}
    assert sizes.pop("experts") + sizes.pop("weights") == 3 * 3 * (2 + 2)
    assert sizes.pop("shared_gate") == 3 * 2
    assert sum(sizes.values()) == 18


@torch.no_grad()
def test_silencing_changes_only_the_tokens_that_chose_the_expert():
    model = make_model("qwen2_moe")
    block, ids, outputs = model.model.layers[0].mlp, torch.tensor(make_prompts(6, 1)), []
    before = hooks_of(model)
    handle = block.register_forward_hook(lambda module, args, output: outputs.append(output[0]))
    with RoutingRecorder(model) as recorder:
        model(ids)
    expert = int(np.bincount(recorder.routing.experts[:, 0].ravel()).argmax())

    def silence(layer, experts, weights):
        return weights.masked_fill((experts == expert) & (layer == 0), 0)

    with change_weights(model, silence):
        model(ids)
    handle.remove()
    changed = (outputs[0] != outputs[1]).any(-1).numpy()
    chose = (recorder.routing.experts[:, 0] == expert).any(-1)
    assert 0 < chose.sum() < len(chose)
    assert (changed == chose).all()
    assert hooks_of(model) == before


@torch.no_grad()
def test_fewer_experts_and_only_the_shared_one():
    model, ids = make_model("qwen2_moe"), torch.tensor(make_prompts(7, 1))
    with change_weights(model, lambda layer, experts, weights: weights * torch.tensor([1.0, 0, 0])):
        masked = model(ids).logits
    for layer in model.model.layers:
        layer.mlp.gate.top_k = 1
    assert torch.allclose(masked, model(ids).logits, atol=1e-6)
    with change_weights(model, lambda layer, experts, weights: weights * 0):
        without = model(ids).logits
    for layer in model.model.layers:
        layer.mlp.experts.down_proj.zero_()
    assert torch.allclose(without, model(ids).logits, atol=1e-6)


def test_layers_on_the_cpu_and_on_the_disk(tmp_path):
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    places |= {"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "cpu"}
    prompts = make_prompts(9, 3)
    model = dispatch_model(make_model("qwen2_moe"), places, main_device="cpu", offload_dir=str(tmp_path))
    with RoutingRecorder(model) as recorder:
        output = model.generate(**pad(prompts, "left"), do_sample=True, max_new_tokens=5)
    assert_routing_of(make_model("qwen2_moe"), recorder.routing, generated_tokens(output, prompts))


def test_models_and_calls_that_cannot_be_recorded():
    dense = transformers.AutoModelForCausalLM.from_config(transformers.Qwen2Config(**SIZES))
    with pytest.raises(CourseError, match="Qwen2ForCausalLM has no router"):
        RoutingRecorder(dense)
    model = make_model("qwen2_moe")
    inputs = {"input_ids": torch.tensor([[20, 21]])}
    with pytest.raises(CourseError, match="static cache"), RoutingRecorder(model):
        model.generate(**inputs, cache_implementation="static", max_new_tokens=3)
    with RoutingRecorder(model) as recorder:
        pass
    with pytest.raises(CourseError, match="run the model inside the with block"):
        recorder.routing  # noqa: B018
    gate = model.model.layers[0].mlp.gate
    handle = gate.register_forward_hook(lambda module, args, output: (output[0], output[1], output[1]))
    with pytest.raises(CourseError, match="The router returned"), RoutingRecorder(model):
        handle.remove()
        gate.register_forward_hook(lambda module, args, output: (*output, output[2]), prepend=True)
        model.model.layers[0].mlp.forward = lambda x: (model.model.layers[0].mlp.gate(x[0]), x)[1]
        model(**inputs)


class Letters:
    """A tokenizer whose token 20 is `a`, 21 is `b` and so on."""

    def decode(self, ids):
        return "".join(chr(ord("a") + i - 20) for i in ids)


@torch.no_grad()
def test_table_file_and_strip(tmp_path):
    model = make_model("qwen2_moe")
    with RoutingRecorder(model, keep_logits=True) as recorder:
        cache = model(torch.tensor([[20, 21], [22, 20]])).past_key_values
        model(torch.tensor([[23], [24]]), past_key_values=cache)
    frame = recorder.routing.to_frame(Letters())
    assert len(frame) == 6 * 3 * 3
    first = frame[(frame["layer"] == 1) & (frame["rank"] == 0)]
    assert first["token"].tolist() == ["a", "b", "d", "c", "a", "e"]
    assert first["phase"].tolist() == ["prefill", "prefill", "decode"] * 2
    assert first["sequence"].tolist() == [0, 0, 0, 1, 1, 1]
    assert (first["expert"].to_numpy() == recorder.routing.experts[:, 1, 0]).all()
    assert (first["shared_gate"].to_numpy() == recorder.routing.shared_gate[:, 1]).all()
    strip = token_strip(frame, layer=1, sequence=1)
    assert strip == [("c", first["expert"].iloc[3]), ("a", first["expert"].iloc[4]), ("e", strip[2][1])]

    recorder.routing.save(tmp_path / "routing.npz")
    loaded = Routing.load(tmp_path / "routing.npz")
    for name, value in vars(recorder.routing).items():
        assert np.array_equal(getattr(loaded, name), value), name
    assert loaded.to_frame(Letters()).equals(frame)
