"""Every way to run a model inside a recording: it is recorded rightly, or refused with the reason."""

import copy
import gc
import threading
import weakref

import numpy as np
import pytest
import torch
import transformers
from tiny_models import NUM_EXPERTS, assert_routing_of, make_model

from helpers import CourseError
from helpers.routing import RoutingRecorder

#: A text that repeats itself, so that prompt lookup finds guesses.
REPETITIVE = [[20, 21, 22, 20, 21, 22, 20, 21, 22]]


def make_endless(name="qwen2_moe", **changes):
    """A model that never ends its answer."""
    return make_model(name, eos_token_id=None, **changes)


def count(routing):
    """Tokens per expert (layers, experts) in a recording."""
    layers = routing.experts.swapaxes(0, 1)
    return [np.bincount(layer.ravel(), minlength=NUM_EXPERTS).tolist() for layer in layers]


def test_with_gradients():
    model = make_endless()
    with RoutingRecorder(model, keep_logits=True) as recorder:
        output = model(torch.tensor(REPETITIVE))
    assert output.logits.requires_grad
    assert_routing_of(model, recorder.routing, REPETITIVE)


def test_a_backward_pass_in_the_block():
    model = make_endless()
    ids = torch.tensor(REPETITIVE)
    with RoutingRecorder(model) as recorder:
        model(ids, labels=ids).loss.backward()
    assert model.model.layers[0].mlp.gate.weight.grad is not None
    assert_routing_of(model, recorder.routing, REPETITIVE)


@torch.no_grad()
def test_a_layer_that_runs_alone_is_no_text():
    model = make_endless()
    hidden = torch.ones(1, 5, 32)
    with RoutingRecorder(model) as recorder:
        model.model.layers[0].mlp(hidden)
        model(torch.tensor(REPETITIVE))
        model.model.layers[0].mlp(hidden)
    assert_routing_of(model, recorder.routing, REPETITIVE)


def test_gradients_with_checkpoints():
    """The layers run a second time, in the backward pass."""
    model = make_endless().train()
    model.gradient_checkpointing_enable()
    ids = torch.tensor(REPETITIVE)
    with RoutingRecorder(model) as recorder:
        model(ids, labels=ids, use_cache=False).loss.backward()
    assert_routing_of(model.eval(), recorder.routing, REPETITIVE)


GUESSES = {
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "prompt lookup, dropping the cache": {"prompt_lookup_num_tokens": 3, "return_dict_in_generate": False},
    "the first layer guesses": {"assistant_early_exit": 1},
    "another model guesses": {"assistant_model": make_endless(seed=1, num_hidden_layers=1)},
    "another model guesses, at random": {
        "assistant_model": make_endless(seed=1, num_hidden_layers=1),
        "do_sample": True,
    },
}
MODELS_THAT_GUESS = {
    "full attention": make_endless(),
    "a sliding window": make_endless("mixtral", sliding_window=5),
}


@pytest.mark.parametrize("guesses", GUESSES)
@pytest.mark.parametrize("attention", MODELS_THAT_GUESS)
def test_rejected_guesses_are_no_text(guesses, attention):
    model = MODELS_THAT_GUESS[attention]
    recorder = RoutingRecorder(model)
    counter = RoutingRecorder(model, counts_only=True)
    options = {"return_dict_in_generate": True, **GUESSES[guesses]}
    with recorder, counter:
        output = model.generate(torch.tensor(REPETITIVE), max_new_tokens=12, **options)
    sequences = getattr(output, "sequences", output)
    sequence = sequences[0, :-1].tolist()  # the last token is never read
    assert len(sequence) == len(REPETITIVE[0]) + 11
    assert_routing_of(model, recorder.routing, [sequence])
    assert counter.counts.tolist() == count(recorder.routing)


def test_guesses_were_rejected():
    """The test above would prove nothing if all guesses were right."""
    model = MODELS_THAT_GUESS["full attention"]
    lengths = []
    with RoutingRecorder(model):
        base = model.base_model
        base.register_forward_hook(
            lambda module, args, kwargs, output: lengths.append(kwargs["input_ids"].shape[1]),
            with_kwargs=True,
        )
        output = model.generate(torch.tensor(REPETITIVE), max_new_tokens=12, prompt_lookup_num_tokens=3)
    assert sum(lengths) > output.shape[1] - 1


def test_guesses_under_inference_mode():
    model = make_endless()
    with RoutingRecorder(model) as recorder, torch.inference_mode():
        output = model.generate(torch.tensor(REPETITIVE), max_new_tokens=12, prompt_lookup_num_tokens=3)
    assert_routing_of(model, recorder.routing, [output[0, :-1].tolist()])


def test_several_answers_to_one_prompt():
    model = make_endless()
    with RoutingRecorder(model) as recorder:
        output = model.generate(
            torch.tensor(REPETITIVE), num_return_sequences=3, do_sample=True, max_new_tokens=6
        )
    assert_routing_of(model, recorder.routing, output[:, :-1].tolist())


def test_threads_at_the_same_time():
    model = make_endless()
    prompts = [[20 + number, 21, 22, 23] for number in range(6)]
    answers = {}

    def answer(number):
        ids = torch.tensor([prompts[number]])
        answers[number] = model.generate(ids, max_new_tokens=6, do_sample=False)[0, :-1].tolist()

    with RoutingRecorder(model) as recorder:
        threads = [threading.Thread(target=answer, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=600)
    by_first_token = {sequence[0]: sequence for sequence in answers.values()}
    starts = recorder.routing.token_id[recorder.routing.position == 0]  # in the order of the sequences
    assert_routing_of(model, recorder.routing, [by_first_token[token] for token in starts])


def test_the_cache_is_not_kept_alive():
    model = make_endless()
    caches = []
    handle = model.register_forward_hook(
        lambda module, args, output: caches.append(weakref.ref(output.past_key_values))
    )
    gc.disable()  # only what nobody refers to may go
    try:
        with RoutingRecorder(model):
            model.generate(torch.tensor(REPETITIVE), max_new_tokens=3)
            assert [cache() for cache in caches] == [None] * 3
    finally:
        gc.enable()
        handle.remove()


@torch.no_grad()
def test_a_cache_that_is_cropped_by_hand():
    model = make_endless()
    with RoutingRecorder(model) as recorder:
        cache = model(torch.tensor(REPETITIVE)).past_key_values
        model(torch.tensor([[30, 31]]), past_key_values=cache)
        cache.crop(-2)
        model(torch.tensor([[40, 41, 42]]), past_key_values=cache)
        cache.crop(-1)
    assert_routing_of(model, recorder.routing, [[*REPETITIVE[0], 40, 41]])


@torch.no_grad()
def test_cropping_what_is_counted():
    model = make_endless()
    with (
        pytest.raises(CourseError, match="4 tokens that are counted"),
        RoutingRecorder(model, counts_only=True),
    ):
        cache = model(torch.tensor(REPETITIVE)).past_key_values
        model(torch.tensor([[30, 31]]), past_key_values=cache)
        model(torch.tensor([[32]]), past_key_values=cache)
        cache.crop(-5)
        model(torch.tensor([[40]]), past_key_values=cache)


@torch.no_grad()
def test_an_emptied_cache_starts_a_new_text():
    model = make_endless()
    with RoutingRecorder(model) as recorder:
        cache = model(torch.tensor(REPETITIVE)).past_key_values
        cache.reset()
        model(torch.tensor([[30, 31]]), past_key_values=cache)
    assert_routing_of(model, recorder.routing, [REPETITIVE[0], [30, 31]])


@torch.no_grad()
def test_a_copied_cache_is_another_sequence():
    model = make_endless()
    with RoutingRecorder(model) as recorder:
        cache = model(torch.tensor(REPETITIVE)).past_key_values
        other = copy.deepcopy(cache)
        model(torch.tensor([[30, 31]]), past_key_values=other)
        model(torch.tensor([[33]]), past_key_values=cache)
    routing = recorder.routing
    assert routing.token_id[routing.sequence == 0].tolist() == [*REPETITIVE[0], 33]
    assert routing.token_id[routing.sequence == 1].tolist() == [30, 31]
    assert routing.position[routing.sequence == 1].tolist() == [9, 10]


REFUSED_IN_GENERATE = {
    "beam search": ({"num_beams": 3}, "as beam search does; use num_beams=1"),
    "no cache": ({"use_cache": False}, "use_cache=False, and would count them twice; use the cache"),
    "beams without a cache": ({"num_beams": 3, "use_cache": False}, "use_cache=False"),
    "beams in groups": (
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        r"group-beam search \(num_beam_groups=2\) .* leave num_beam_groups out and use num_beams=1",
    ),
    "beams with forced words": (
        {"num_beams": 2, "force_words_ids": [[5]]},
        "words that the answer must hold",
    ),
    "contrastive search": ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive search"),
    "guidance": (
        {"guidance_scale": 1.5},
        "with guidance_scale=1.5 the model reads a second text beside yours",
    ),
    "guidance away from a text": (
        {"guidance_scale": 2, "negative_prompt_ids": torch.tensor([[5, 6]])},
        "leave guidance_scale out",
    ),
    "guidance without a cache": ({"guidance_scale": 1.5, "use_cache": False}, "leave guidance_scale out"),
    "guidance in a configuration": (
        {"generation_config": transformers.GenerationConfig(guidance_scale=3, max_new_tokens=6)},
        "with guidance_scale=3",
    ),
    "a static cache": ({"cache_implementation": "static"}, "do not use a static cache"),
}


@pytest.mark.parametrize("case", REFUSED_IN_GENERATE)
def test_generate_in_a_way_that_cannot_be_recorded(case, no_hook_left):
    options, sentence = REFUSED_IN_GENERATE[case]
    model = make_endless()
    with pytest.raises(CourseError, match=sentence), RoutingRecorder(model) as recorder:
        model.generate(torch.tensor(REPETITIVE), max_new_tokens=6, **options)
    with pytest.raises(CourseError, match=sentence):
        recorder.routing  # noqa: B018


@pytest.mark.parametrize("case", ["guidance", "beams in groups"])
def test_counts_of_what_cannot_be_recorded(case):
    options, sentence = REFUSED_IN_GENERATE[case]
    model = make_endless()
    with pytest.raises(CourseError, match=sentence), RoutingRecorder(model, counts_only=True) as recorder:
        model.generate(torch.tensor(REPETITIVE), max_new_tokens=6, **options)
    assert recorder.counts is None


def test_guidance_by_a_processor_made_by_hand():
    model = make_endless()
    guide = transformers.UnbatchedClassifierFreeGuidanceLogitsProcessor(1.5, model)
    with pytest.raises(CourseError, match=r"guidance_scale=1\.5"), RoutingRecorder(model):
        model.generate(torch.tensor(REPETITIVE), max_new_tokens=6, logits_processor=[guide])


def test_guidance_in_the_models_own_settings():
    model = make_endless()
    model.generation_config.guidance_scale = 1.5
    with pytest.raises(CourseError, match=r"guidance_scale=1\.5"), RoutingRecorder(model):
        model.generate(torch.tensor(REPETITIVE), max_new_tokens=6)


def test_a_refusal_in_chinese(monkeypatch):
    monkeypatch.setenv("COURSE_LANG", "zh")
    with (
        pytest.raises(CourseError, match="请去掉 guidance_scale"),
        RoutingRecorder(make_endless()) as recorder,
    ):
        recorder.model.generate(torch.tensor(REPETITIVE), max_new_tokens=6, guidance_scale=2)
    with pytest.raises(CourseError, match="无法记录路由：设置了 guidance_scale=2 时"):
        recorder.routing  # noqa: B018


def test_options_that_change_nothing_are_taken():
    model = make_endless()
    with RoutingRecorder(model) as recorder:
        output = model.generate(
            torch.tensor(REPETITIVE), max_new_tokens=6, guidance_scale=1, num_beam_groups=1, penalty_alpha=0
        )
    assert_routing_of(model, recorder.routing, output[:, :-1].tolist())


def test_generate_is_as_before_after_the_block():
    model = make_endless()
    with RoutingRecorder(model), RoutingRecorder(model):
        assert "generate" in vars(model)
    assert "generate" not in vars(model)


def test_generate_batch():
    """It runs in a thread of its own, which swallows errors: the recording says what was wrong."""
    model = make_endless()
    config = transformers.GenerationConfig(max_new_tokens=4, eos_token_id=1, pad_token_id=0)
    small = transformers.ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64)
    prompts = [[20, 21, 22], [23, 24, 25, 26]]
    with RoutingRecorder(model) as recorder:
        model.generate_batch(prompts, generation_config=config, continuous_batching_config=small)
    with pytest.raises(CourseError, match="packs several texts into one row"):
        recorder.routing  # noqa: B018


IDS = torch.tensor(REPETITIVE)
REFUSED_PASSES = {
    "embeddings": (
        lambda model: model(inputs_embeds=model.get_input_embeddings()(IDS)),
        "not inputs_embeds=",
    ),
    "tokens without a name": (lambda model: model.model(IDS), "pass input_ids= by name"),
    "no token": (lambda model: model(IDS[:, :0]), r"the shape \(1, 0\)"),
    "a mask of 4 dimensions": (
        lambda model: model(IDS, attention_mask=torch.ones(1, 1, 9, 9)),
        "the attention mask is not one",
    ),
    "a static cache": (
        lambda model: model(IDS, past_key_values=transformers.StaticCache(model.config, max_cache_len=32)),
        "use the usual dynamic cache",
    ),
}


@pytest.mark.parametrize("case", REFUSED_PASSES)
@torch.no_grad()
def test_a_pass_that_cannot_be_recorded(case):
    run, sentence = REFUSED_PASSES[case]
    with pytest.raises(CourseError, match=sentence), RoutingRecorder(make_endless()) as recorder:
        run(recorder.model)


@torch.no_grad()
def test_a_cache_for_more_sequences_than_before():
    model = make_endless()
    with pytest.raises(CourseError, match="exchanged or repeated"), RoutingRecorder(model):
        cache = model(IDS).past_key_values
        cache.batch_repeat_interleave(2)
        model(torch.tensor([[30], [31]]), past_key_values=cache)


@torch.no_grad()
def test_a_layer_that_is_skipped():
    model = make_endless()
    model.model.layers[1].mlp.forward = lambda hidden_states: hidden_states
    with (
        pytest.raises(CourseError, match=r"the router of layer 1 did not run"),
        RoutingRecorder(model),
    ):
        model(IDS)


def compile_forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compile_in_place(model):
    model.compile(backend="eager")
    return model


def compile_a_layer(model):
    model.model.layers[1].mlp.compile(backend="eager")
    return model


def compile_as_a_new_model(model):
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize(
    "compiled", [compile_as_a_new_model, compile_in_place, compile_forward, compile_a_layer]
)
def test_a_compiled_model(compiled):
    model = compiled(make_endless())
    with pytest.raises(CourseError, match="compiled code runs without hooks"), RoutingRecorder(model):
        pass
