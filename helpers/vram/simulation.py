"""A request, simulated: prefill and one decoding step of a model on `meta`, with a ledger of its memory."""

import copy
from collections import defaultdict

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from helpers import CourseError, compat
from helpers.vram.kernels import ATTENTION_STAND_INS, EXPERTS_STAND_INS, stand_ins
from helpers.vram.ledger import CUDA_BLOCK, Ledger


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


class Simulation:
    """One request on one model: `placement` says on which GPU each module lies (0, 1 ..., or "cpu").

    `prefill` and `decode` are to be called in this order. `on_cpu`: as a CPU does it; sizes are not rounded
    to the blocks of a GPU's allocator, and decoding keeps the experts implementation.
    """

    def __init__(self, model, placement, batch, padding, sampling, on_cpu):
        self.model = model
        self.batch = batch
        self.padding = padding
        self.sampling = sampling
        self.on_cpu = on_cpu
        self.cache = DynamicCache(config=model.config)
        block = CUDA_BLOCK
        if on_cpu:
            block = 1
        self.ledger = Ledger([*model.parameters(), *model.buffers()], block)
        for name, gpu in placement.items():
            self.compute_on(name, gpu)

    def compute_on(self, name: str, gpu: int | str) -> None:
        """Module `name` brings its inputs to `gpu`. What lies in RAM is computed by GPU 0."""
        if gpu == "cpu":
            gpu = 0

        def bring(module, args, kwargs):
            return self.ledger.move((args, kwargs), gpu)

        self.model.get_submodule(name).register_forward_pre_hook(bring, with_kwargs=True)

    def step(self, past: int, length: int):
        """One forward pass as generate() makes it, after `past` tokens. Returns what generate() keeps."""
        self.ledger.gpu = 0
        # Three arrays of (batch, tokens), of which generate() cuts what the step needs.
        ids, mask, positions = torch.empty(3, self.batch, past + length, dtype=torch.int64, device="meta")
        if past:
            positions = positions[:, past:].clone()
        if not self.padding:
            mask = None
        output = self.model(
            input_ids=ids[:, past:].clone(),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = self.ledger.move(output.logits, 0)  # (batch, 1, vocabulary)
        scores = logits[:, -1].to(torch.float32, copy=True)
        probabilities = None
        if self.sampling:
            probabilities = scores.softmax(-1)
        return scores, probabilities

    def grow_cache(self, past: int) -> None:
        """Keys and values of `past` tokens instead of the prompt's."""
        for layer in self.cache.layers:
            self.ledger.gpu = self.ledger.gpu_of(layer.keys)
            layer.cumulative_length = past
            kept = past
            if layer.is_sliding:
                kept = min(past, layer.sliding_window - 1)
            # Keys and values: (batch, heads, tokens, size of a head)
            batch, heads, _, size = layer.keys.shape
            layer.keys = layer.keys.new_empty(batch, heads, kept, size)
            batch, heads, _, size = layer.values.shape
            layer.values = layer.values.new_empty(batch, heads, kept, size)

    def prefill(self, prompt: int):
        """Run the prompt; what generate() keeps."""
        return self.step(past=0, length=prompt)

    def decode(self, past: int):
        """Run one token with `past` tokens in the cache."""
        self.grow_cache(past)
        if not self.on_cpu and compat.experts_implementation(self.model) == "grouped_mm":
            self.model.set_experts_implementation("batched_mm")  # as generate() does
        self.ledger.peak.clear()
        return self.step(past, length=1)

    def cache_bytes(self) -> dict[int, int]:
        """Bytes of keys and values on each GPU."""
        found = defaultdict(int)
        for layer in self.cache.layers:
            found[self.ledger.gpu_of(layer.keys)] += layer.keys.nbytes + layer.values.nbytes
        return found


def simulate(
    model, placement, batch=1, prompt=2048, new=512, padding=False, sampling=False, on_cpu=False
) -> dict[str, dict[int, int]]:
    """Memory of generate() above the weights: prefill, and the last decoding step, the largest one.

    `model`: of `meta_model`. `placement`: module name -> GPU, or "cpu". `batch` prompts of `prompt` tokens
    each get `new` new ones. Returns bytes by GPU: {"prefill": {0: ...}, "decode": {0: ...}, "kv_cache": {0:
    ...}}; "kv_cache" is that of the end, and part of "decode".
    """
    if min(batch, prompt, new) < 1:
        raise CourseError(f"Batch {batch}, prompt {prompt}, new {new}: each must be at least 1.")
    simulation = Simulation(model, placement, batch, padding, sampling, on_cpu)
    ledger = simulation.ledger
    with stand_ins(), torch.no_grad(), ledger:
        kept = [simulation.prefill(prompt)]
        prefill = dict(ledger.peak)
        if new > 1:  # else the prefill's own token is the only one
            kept.append(simulation.decode(past=prompt + new - 2))
        decode = dict(ledger.peak)
    return {"prefill": prefill, "decode": decode, "kv_cache": simulation.cache_bytes()}
