"""A request, simulated: generate() of a model on `meta`, with a ledger of its memory.

transformers' own generate() prepares the inputs, the cache and whatever works on the scores (repetition
penalty, top-p ...). Only its loop is replaced, by `Simulation.loop`, which goes from the first tokens
straight to the last one, where the cache is largest.
"""

import copy
from collections import defaultdict

import torch
from transformers import AutoModelForCausalLM

from helpers import CourseError, compat
from helpers.language import say
from helpers.vram.configs import one_line
from helpers.vram.kernels import ATTENTION_STAND_INS, EXPERTS_STAND_INS, draw_tokens, stand_ins
from helpers.vram.ledger import CUDA_BLOCK, Ledger

#: Settings of generate() that do nothing without sampling.
SAMPLING_ONLY = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


def meta_model(config, dtype="bfloat16", attention="sdpa", experts="grouped_mm"):
    """The model on `meta`: parameters without bytes, and stand-ins for kernels that `meta` does not have.

    `attention`: sdpa, eager or flash_attention_2. `experts`: grouped_mm, batched_mm or eager.
    """
    attention = ATTENTION_STAND_INS.get(attention, attention)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=getattr(torch, dtype), attn_implementation=attention
        )
    model.eval()
    if compat.has_fused_experts(model):  # a dense model has no experts
        model.set_experts_implementation(EXPERTS_STAND_INS.get(experts, experts))
    return model


def grow_cache(cache, past: int, ledger: Ledger) -> None:
    """Keys and values of `past` tokens instead of those that are there, each on the GPU where it was."""
    for layer in cache.layers:
        if layer.keys is None:  # it uses the keys of another layer
            continue
        ledger.gpu = ledger.gpu_of(layer.keys)
        stored = past
        visible = past
        if layer.is_sliding:
            layer.cumulative_length = past
            # The cache keeps a view of one token less than it has stored.
            stored = min(past, layer.sliding_window)
            visible = min(past, layer.sliding_window - 1)
        # Keys and values: (batch, heads, tokens, size of a head); the two sizes may differ.
        batch, heads, _, size = layer.keys.shape
        layer.keys = layer.keys.new_empty(batch, heads, stored, size)[:, :, stored - visible :]
        batch, heads, _, size = layer.values.shape
        layer.values = layer.values.new_empty(batch, heads, stored, size)[:, :, stored - visible :]


def cache_bytes(cache, ledger: Ledger) -> dict[int, int]:
    """Bytes of keys and values on each GPU."""
    found = defaultdict(int)
    for layer in cache.layers:
        if layer.keys is not None:
            stored = layer.keys.untyped_storage().nbytes() + layer.values.untyped_storage().nbytes()
            found[ledger.gpu_of(layer.keys)] += stored
    return found


def has_full_window(cache) -> bool:
    """Whether a layer looks back at fewer tokens than it has seen."""
    return any(layer.is_sliding and layer.cumulative_length >= layer.sliding_window for layer in cache.layers)


class Simulation:
    """One request on one model: `placement` says on which GPU each module lies (0, 1 ..., or "cpu").

    `on_cpu`: as a CPU does it; sizes are not rounded to the blocks of a GPU's allocator, and decoding keeps
    the experts implementation. After `run`, `prefill` and `decode` are the peaks in bytes by GPU.
    """

    def __init__(self, model, placement, new: int, padding: bool, on_cpu: bool):
        self.model = model
        self.new = new
        self.on_cpu = on_cpu
        block = CUDA_BLOCK
        if on_cpu:
            block = 1
        self.ledger = Ledger([*model.parameters(), *model.buffers()], block)
        # The one question about numbers that generate() asks: is the attention mask all ones?
        self.ledger.answer = not padding
        self.prefill: dict[int, int] = {}
        self.decode: dict[int, int] = defaultdict(int)
        self.cache = None
        for name, gpu in placement.items():
            self.compute_on(name, gpu)

    def compute_on(self, name: str, gpu: int | str) -> None:
        """Module `name` brings its inputs to `gpu`. What lies in RAM is computed by GPU 0."""
        if gpu == "cpu":
            gpu = 0

        def bring(module, args, kwargs):
            return self.ledger.move((args, kwargs), gpu)

        self.model.get_submodule(name).register_forward_pre_hook(bring, with_kwargs=True)

    def run(self, batch: int, prompt: int, sampling: bool, **generation) -> None:
        """Call generate(); `generation`: its settings, such as temperature or repetition_penalty."""
        if not sampling:
            generation = {name: value for name, value in generation.items() if name not in SAMPLING_ONLY}
        self.model.generation_config.eos_token_id = None  # else the numbers of tokens would be asked for
        self.model.generation_config.pad_token_id = None
        with stand_ins(self.on_cpu), torch.no_grad(), self.ledger:
            ids = torch.empty(batch, prompt, dtype=torch.int64, device="meta")
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.new,
                do_sample=sampling,
                custom_generate=self.loop,
                **generation,
            )

    def loop(self, model, input_ids, logits_processor, stopping_criteria, generation_config, **inputs):
        """The loop of generate(), which calls this: the prompt, then the tokens that need most.

        `input_ids`: (batch, tokens). The arrays of a turn are attributes, so that each of them lives until
        the next turn has its own, as the variables in the original do.
        """
        prompt = input_ids.shape[1]
        self.input_ids = input_ids
        self.inputs = inputs
        self.turn(logits_processor, generation_config, past=0)
        self.prefill = dict(self.ledger.peak)
        self.cache = self.inputs["past_key_values"]
        last = prompt + self.new - 2  # tokens in the cache before the last turn
        if not self.on_cpu and compat.experts_implementation(model) == "grouped_mm":
            model.set_experts_implementation("batched_mm")  # as generate() does
        if self.new > 2 and has_full_window(self.cache):
            # Until its next token, each layer has the keys of the whole prompt in memory.
            self.decode_turn(logits_processor, generation_config, past=prompt)
        if self.new > 1:
            self.grow(last)
            self.decode_turn(logits_processor, generation_config, past=last)
        return self.input_ids

    def decode_turn(self, logits_processor, generation_config, past: int) -> None:
        """One token, and the peak of it."""
        self.ledger.peak.clear()
        self.turn(logits_processor, generation_config, past)
        for gpu, peak in self.ledger.peak.items():
            self.decode[gpu] = max(self.decode[gpu], peak)

    def turn(self, logits_processor, generation_config, past: int) -> None:
        """One pass through the model and the choice of the next tokens, as in generate()'s own loop."""
        self.ledger.gpu = 0
        length = self.input_ids.shape[1] - past
        prepared = self.model.prepare_inputs_for_generation(
            self.input_ids, next_sequence_length=length, is_first_iteration=past == 0, **self.inputs
        )
        output = self.model(**prepared, return_dict=True)
        if past:
            self.prepared = prepared  # it lives as long as the loop; the one of the prompt does not
        del prepared
        self.ledger.gpu = 0
        self.longer_inputs(past + length + 1)
        logits = self.ledger.move(output.logits, 0)  # (batch, 1, vocabulary)
        self.logits = logits[:, -1].to(torch.float32, copy=True)
        self.scores = logits_processor(self.input_ids, self.logits)
        if generation_config.do_sample:
            self.probabilities = torch.nn.functional.softmax(self.scores, dim=-1)
            self.tokens = draw_tokens(self.probabilities)
        else:
            self.tokens = torch.argmax(self.scores, dim=-1)
        self.input_ids = torch.cat([self.input_ids, self.tokens[:, None]], dim=-1)

    def longer_inputs(self, tokens: int) -> None:
        """Position ids and attention mask for one token more: `tokens` in all."""
        for name in ("position_ids", "attention_mask"):
            if self.inputs.get(name) is not None:
                self.inputs[name] = self.inputs[name].new_empty(*self.inputs[name].shape[:-1], tokens)

    def grow(self, past: int) -> None:
        """As it is before the last turn, with `past` tokens in the cache."""
        self.ledger.gpu = 0
        self.input_ids = self.input_ids.new_empty(len(self.input_ids), past + 1)
        self.longer_inputs(past + 1)
        grow_cache(self.cache, past, self.ledger)


def simulate(
    model, placement, batch=1, prompt=2048, new=512, padding=False, sampling=False, on_cpu=False, **generation
) -> dict[str, dict[int, int]]:
    """Memory of generate() above the weights: of the prefill, and of the decoding step that needs most.

    `model`: of `meta_model`. `placement`: module name -> GPU, or "cpu". `batch` prompts of `prompt` tokens
    each get `new` new ones; `padding`: the prompts have different lengths. `generation`: further settings of
    generate(), such as temperature, top_k, top_p or repetition_penalty.

    Returns bytes by GPU: {"prefill": {0: ...}, "decode": {0: ...}, "kv_cache": {0: ...}}; "kv_cache" is that
    of the end, and part of "decode".
    """
    if not all(isinstance(number, int) and number >= 1 for number in (batch, prompt, new)):
        raise CourseError(
            say(
                "Batch {batch}, prompt {prompt}, new {new}: each must be a whole number, at least 1.",
                batch=batch,
                prompt=prompt,
                new=new,
            )
        )
    simulation = Simulation(model, placement, new, padding, on_cpu)
    try:
        simulation.run(batch, prompt, sampling, **generation)
    except Exception as error:  # a damaged config can fail in any line of the model's code
        raise CourseError(
            say(
                "This request cannot be forecast ({reason}): correct the request, or compare the config with "
                "the original config.json.",
                reason=one_line(error),
            )
        ) from error
    kv_cache = cache_bytes(simulation.cache, simulation.ledger)
    decode = dict(simulation.decode) or simulation.prefill  # the prefill's own token may be the only one
    return {"prefill": simulation.prefill, "decode": decode, "kv_cache": kv_cache}
