"""Which storages are alive on which GPU while a model runs: the ledger behind the forecast of helpers.vram.

The idea: a tensor on PyTorch's `meta` device has a shape and a type, but no bytes. So the model's code runs
anywhere, at any size, in a moment, while a *ledger* notes which tensors are alive on which GPU. The highest
total in the ledger is the peak of a real run. Sizes are bytes.
"""

import copy
import weakref
from collections import defaultdict
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, DynamicCache
from transformers.integrations import moe

from helpers import CourseError

CUDA_BLOCK = 512  # PyTorch's CUDA allocator hands out multiples of 512 bytes
EAGER_IMBALANCE = 2.0  # assumption for eager experts: tokens of the busiest expert over its fair share


def metadata(value):
    """What decides the shape and type of an operation's result: `value` with its tensors described."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(metadata, value))
    return type(value), value  # the type, because 1 == 1.0 == True


class Ledger(TorchDispatchMode):
    """Books every storage that operations create on `gpu`, the GPU that computes now. Views create none."""

    def __init__(self, weights, block: int):
        super().__init__()
        self.gpu, self.block, self.live, self.peak = 0, block, defaultdict(int), defaultdict(int)
        self.home = {w.untyped_storage()._cdata: None for w in weights}  # storage -> GPU; weights not booked
        self.seen = {}  # an operation and its inputs' metadata -> metadata of its new result

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # 24 equal layers: most operations were seen before. Looking a result up is ten times faster than
        # computing its shape again. Only new storages are looked up; views must come from the operation.
        kwargs = kwargs or {}
        key = function, metadata(args), metadata(tuple(kwargs.items()))
        if key in self.seen:
            shape, stride, dtype = self.seen[key]
            result = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        else:
            result = function(*args, **kwargs)
            if torch.is_tensor(result) and result.untyped_storage()._cdata not in self.home:
                self.seen[key] = metadata(result)
        for tensor in filter(torch.is_tensor, tree_leaves(result)):
            self.book(tensor.untyped_storage())
        return result

    def book(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self.home:
            gpu, size = self.gpu, -(-storage.nbytes() // self.block) * self.block
            self.home[key] = gpu
            self.live[gpu] += size
            self.peak[gpu] = max(self.peak[gpu], self.live[gpu])
            weakref.finalize(storage, self.release, key, gpu, size)

    def release(self, key: int, gpu: int, size: int) -> None:
        del self.home[key]
        self.live[gpu] -= size

    def gpu_of(self, tensor: torch.Tensor) -> int | None:
        return self.home.get(tensor.untyped_storage()._cdata)

    def move(self, tree, gpu: int):
        """From now on `gpu` computes: tensors of another GPU are copied to it, as accelerate's hooks do."""
        self.gpu = gpu
        return tree_map_only(torch.Tensor, lambda t: t if self.gpu_of(t) in (gpu, None) else t.clone(), tree)


# Stand-ins for kernels: they allocate what a fused GPU kernel does. On `meta`, PyTorch would take slow paths.
def fused_attention(query, key, value, *mask, **options):
    """sdpa: one output, laid out as (batch, tokens, heads, size). A matrix of scores never exists."""
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)


def eager_experts(self, hidden, top_k_index, top_k_weights):
    """Two turns of the loop over experts; how many tokens the busiest expert gets is an assumption."""
    result, functional = torch.zeros_like(hidden), torch.nn.functional
    _chosen = functional.one_hot(top_k_index, self.num_experts + 1)
    tokens = min(len(hidden), round(EAGER_IMBALANCE * top_k_index.numel() / self.num_experts))
    for _ in range(2):
        rows, _index = hidden[:tokens].clone(), top_k_index.new_empty(2, tokens)
        gate, up = functional.linear(rows, self.gate_up_proj[0]).chunk(2, dim=-1)
        output = self.act_fn(gate) * up
        output = functional.linear(output, self.down_proj[0])
        output = output * top_k_weights[:tokens, :1]
    return result


def flash_attention_2(module, query, key, value, mask=None, **options):
    """flash-attn: as sdpa, and one float32 number per query. With padding (`mask`), transformers copies what
    is not padding out of queries, keys and values, and the output back; booked as if one token were padded.
    """
    batch, heads, tokens, _ = query.shape
    if mask is not None:
        key, value = (states.transpose(1, 2).flatten(0, 1).clone() for states in (key, value))
        if tokens > 1:  # a decoding step has no padding among its queries
            _rows = query.transpose(1, 2).flatten(0, 1).clone()
    _sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)
    output = query.new_empty(batch, tokens, heads, value.shape[-1])
    return output if mask is None else output.clone(), None


def padding_mask(attention_mask=None, **options):
    """flash-attn takes no matrix of allowed pairs: it gets the (batch, tokens) mask if there is padding."""
    return attention_mask


moe.ALL_EXPERTS_FUNCTIONS.register("ledger_eager", eager_experts)
AttentionInterface.register("ledger_fa2", flash_attention_2)
AttentionMaskInterface.register("ledger_fa2", padding_mask)
FAKE_SDPA = mock.patch("torch.nn.functional.scaled_dot_product_attention", fused_attention)
FAKE_MM = mock.patch.object(moe, "_grouped_mm", lambda x, w, offs: x.new_empty(len(x), w.shape[-1]))
FAKE_ALL = mock.patch("transformers.masking_utils.fast_all", lambda mask: False)  # masks have zeros


def meta_model(config, dtype="bfloat16", attention="sdpa", experts="grouped_mm"):
    """The model on `meta`: parameters without bytes, and stand-ins for kernels that `meta` does not have."""
    how = {"dtype": getattr(torch, dtype)}
    how["attn_implementation"] = attention.replace("flash_attention_2", "ledger_fa2")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), **how).eval()
    if model._can_set_experts_implementation():  # a dense model has no experts
        model.set_experts_implementation("ledger_eager" if experts == "eager" else experts)
    return model


def run(model, placement, batch=1, prompt=2048, new=512, padding=False, sampling=False, on_cpu=False):
    """Runs prefill and the last decoding step, the largest one: the cache has grown until then.

    Returns bytes per GPU above the weights: {"prefill": {0: ...}, "decode": {0: ...}, "kv_cache": {0: ...}}.
    `on_cpu`: sizes are not rounded to `CUDA_BLOCK`, and decoding keeps the experts implementation.
    """
    if min(batch, prompt, new) < 1:
        raise CourseError(f"Batch {batch}, prompt {prompt}, new {new}: each must be at least 1.")
    ledger = Ledger([*model.parameters(), *model.buffers()], block=1 if on_cpu else CUDA_BLOCK)
    cache, kv_cache = DynamicCache(config=model.config), defaultdict(int)
    for name, gpu in placement.items():  # GPU 0 computes what lies in RAM
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, *inputs, gpu=0 if gpu == "cpu" else gpu: ledger.move(inputs, gpu), with_kwargs=True
        )

    def step(past: int, length: int):
        """One forward pass as generate() makes it; returns what generate() holds until the next one."""
        ledger.gpu = 0
        ids, mask, positions = torch.empty(3, batch, past + length, dtype=torch.int64, device="meta")
        inputs = {"input_ids": ids[:, past:].clone(), "attention_mask": mask if padding else None}
        inputs["position_ids"] = positions[:, past:].clone() if past else positions
        logits = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        scores = ledger.move(logits, 0)[:, -1].to(torch.float32, copy=True)
        return scores, scores.softmax(-1) if sampling else None

    with FAKE_SDPA, FAKE_MM, FAKE_ALL, torch.no_grad(), ledger:
        kept = step(0, prompt)
        prefill = dict(ledger.peak)
        if new > 1:  # else the prefill's own token is the only one
            past = prompt + new - 2  # tokens in the cache before the last step
            for layer in cache.layers:
                ledger.gpu, layer.cumulative_length = ledger.gpu_of(layer.keys), past
                n = min(past, layer.sliding_window - 1) if layer.is_sliding else past
                layer.keys = layer.keys.new_empty(*layer.keys.shape[:2], n, layer.keys.shape[3])
                layer.values = layer.values.new_empty(*layer.values.shape[:2], n, layer.values.shape[3])
            if not on_cpu and model.config._experts_implementation == "grouped_mm":
                model.set_experts_implementation("batched_mm")  # as generate() does
            ledger.peak.clear()
            kept = kept, step(past, 1)
    for layer in cache.layers:
        kv_cache[ledger.gpu_of(layer.keys)] += layer.keys.nbytes + layer.values.nbytes
    return {"prefill": prefill, "decode": dict(ledger.peak), "kv_cache": kv_cache}
