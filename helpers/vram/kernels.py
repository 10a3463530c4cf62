"""Stand-ins for the kernels of a GPU: they allocate what the kernel does, and compute nothing.

On PyTorch's `meta` device, fused kernels do not exist (PyTorch would take a slow path that allocates more),
and code that looks at numbers cannot run. Each stand-in replaces one of these while a forecast is made.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from helpers import compat
from helpers.vram.ledger import round_up

MASK_ALIGNMENT = 8  # PyTorch's memory-efficient kernel: aten/src/ATen/native/transformers/attention.cpp
EAGER_IMBALANCE = 2.0  # assumption for eager experts: tokens of the busiest expert over its fair share

#: What transformers calls an implementation -> the stand-in that the model on `meta` gets. The name must not
#: contain "flash": transformers would look for the package.
ATTENTION_STAND_INS = {"flash_attention_2": "ledger_fa2"}
EXPERTS_STAND_INS = {"eager": "ledger_eager"}


def fused_attention(query, key, value, attn_mask=None, **options):
    """Attention `sdpa` on a GPU: one output. A matrix of scores, (batch, heads, queries, keys), never exists.

    `query`, `key`, `value`: (batch, heads, tokens, size of a head). A mask is (batch, 1, queries, keys), and
    PyTorch turns one of booleans into numbers of the query's type.
    """
    if stores_scores(query, key, **options):
        return attention_with_scores(query, key, value, attn_mask, **options)
    batch, heads, tokens, _ = query.shape
    _sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)
    if attn_mask is None and query.dtype != torch.float32:  # the flash kernel
        return output_like(query, value)
    # The memory-efficient kernel wants the rows of a mask to be a multiple of 8 long.
    if attn_mask is not None:
        attn_mask = mask_of_numbers(attn_mask, query)
        keys = attn_mask.shape[-1]
        if keys % MASK_ALIGNMENT:
            attn_mask = attn_mask.new_empty(*attn_mask.shape[:-1], round_up(keys, MASK_ALIGNMENT))
    return query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)


def attention_with_scores(query, key, value, attn_mask=None, is_causal=False, enable_gqa=False, **options):
    """Attention `sdpa` without a fused kernel: in float32, with matrices of scores.

    Step by step what PyTorch does in `_scaled_dot_product_attention_math`
    (aten/src/ATen/native/transformers/attention.cpp), whose own code allocates more when it is watched.
    """
    dtype = query.dtype
    _, heads, tokens, _ = query.shape
    keys = key.shape[2]
    # 1. Numbers instead of booleans, and everything in float32.
    if attn_mask is not None:
        attn_mask = mask_of_numbers(attn_mask, query)
    query = query.float()
    key = key.float()
    value = value.float()
    scaled_query = query * 1.0
    if is_causal:
        allowed = query.new_empty(tokens, keys, dtype=torch.bool).tril()
        attn_mask = mask_of_numbers(allowed, query)
        del allowed
    if enable_gqa:
        key = key.repeat_interleave(heads // key.shape[1], dim=1)
        value = value.repeat_interleave(heads // value.shape[1], dim=1)
    # 2. Scores: (batch, heads, queries, keys)
    scores = scaled_query @ (key * 1.0).transpose(-2, -1)
    if attn_mask is not None:
        scores.add_(attn_mask.float())
    # 3. Softmax, with a look at which scores are minus infinity
    probabilities = torch.softmax(scores, dim=-1)
    _forbidden = torch.empty_like(scores, dtype=torch.bool)
    del scores, _forbidden
    _also_returned = probabilities.to(dtype)
    return (probabilities @ value).to(dtype)


def stores_scores(query, key, enable_gqa=False, **options) -> bool:
    """Whether no fused kernel of a GPU can do it, so that PyTorch stores the scores.

    Of the fused kernels, only those for 2-byte types let heads of queries share heads of keys.
    """
    if query.shape[1] == key.shape[1]:
        return False
    return not enable_gqa or query.dtype == torch.float32


def fused_attention_of_a_cpu(query, key, value, attn_mask=None, enable_gqa=False, **options):
    """Attention `sdpa` on a CPU: a fused kernel, unless heads differ in size or, undeclared, in number."""
    batch, heads, tokens, size = query.shape
    same_heads = enable_gqa or heads == key.shape[1]
    if value.shape[-1] != size or not same_heads:
        return attention_with_scores(query, key, value, attn_mask, enable_gqa=enable_gqa, **options)
    if attn_mask is not None:
        attn_mask = mask_of_numbers(attn_mask, query)
    _sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)
    return output_like(query, value)


def output_like(query, value):
    """The output of a flash kernel lies in memory in the order in which the query does."""
    batch, heads, tokens, size = query.shape
    if value.shape[-1] != size:
        return query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
    return torch.empty_like(query.transpose(1, 2)).transpose(1, 2)


def mask_of_numbers(mask, query):
    """0 or minus infinity in the query's type for the booleans of a mask."""
    if mask.dtype == torch.bool:
        return query.new_empty(mask.shape)
    return mask


def flash_attention_2(module, query, key, value, mask=None, **options):
    """Attention `flash_attention_2`: as sdpa, and one float32 number per query.

    With padding (`mask`), transformers copies what is not padding out of queries, keys and values, and the
    output back; booked as if one token were padded.
    """
    batch, heads, tokens, _ = query.shape
    if mask is not None:
        key = key.transpose(1, 2).flatten(0, 1).clone()
        value = value.transpose(1, 2).flatten(0, 1).clone()
        if tokens > 1:  # a decoding step has no padding among its queries
            _rows = query.transpose(1, 2).flatten(0, 1).clone()
    _sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)
    output = query.new_empty(batch, tokens, heads, value.shape[-1])
    if mask is not None:
        output = output.clone()
    return output, None


def padding_mask(attention_mask=None, **options):
    """The mask of flash-attn: no matrix of allowed pairs; the (batch, tokens) mask if there is padding."""
    return attention_mask


def grouped_product(rows, weights, offs):
    """Experts `grouped_mm`: (tokens, in) times (experts, in, out), each row with its own expert's matrix.

    `offs`, the name that transformers uses: where the rows of each expert end.
    """
    return rows.new_empty(len(rows), weights.shape[-1])


def turns_of_the_loop(experts, top_k_index) -> list[int]:
    """How many tokens each turn of the eager loop over experts handles: a turn per expert that has any.

    Which expert gets how many only a real run knows; `experts.measured_turns` (one list per forward pass)
    holds what one had. Without it: two turns of the busiest expert, `EAGER_IMBALANCE` times its fair share.
    `top_k_index`: (tokens, experts per token).
    """
    measured = getattr(experts, "measured_turns", None)
    if measured:
        return measured.pop(0)
    tokens = len(top_k_index)
    fair_share = top_k_index.numel() / experts.num_experts
    busiest = min(tokens, round(EAGER_IMBALANCE * fair_share))
    return [busiest, busiest]


def eager_experts(self, hidden, top_k_index, top_k_weights):
    """The loop over experts: the arrays of a turn live until the next turn has its own.

    `hidden`: (tokens, hidden size); `top_k_index`, `top_k_weights`: (tokens, experts per token).
    """
    result = torch.zeros_like(hidden)
    functional = torch.nn.functional
    _chosen = functional.one_hot(top_k_index, self.num_experts + 1)
    for tokens in turns_of_the_loop(self, top_k_index):
        _index = top_k_index.new_empty(2, tokens)
        rows = hidden[:tokens].clone()
        gate, up = functional.linear(rows, self.gate_up_proj[0]).chunk(2, dim=-1)
        output = self.act_fn(gate) * up
        output = functional.linear(output, self.down_proj[0])
        output = output * top_k_weights[:tokens, :1]
    return result


def draw_tokens(probabilities):
    """torch.multinomial for one token: (batch, vocabulary) -> (batch,). On `meta` it would draw no noise."""
    _noise = torch.empty_like(probabilities)
    return torch.argmax(probabilities, dim=-1)


AttentionInterface.register("ledger_fa2", flash_attention_2)
AttentionMaskInterface.register("ledger_fa2", padding_mask)
compat.register_experts("ledger_eager", eager_experts)


def replace_sdpa(on_cpu: bool):
    """Context manager: the stand-in for PyTorch's fused attention."""
    stand_in = fused_attention
    if on_cpu:
        stand_in = fused_attention_of_a_cpu
    return mock.patch("torch.nn.functional.scaled_dot_product_attention", stand_in)


@contextmanager
def stand_ins(on_cpu: bool) -> Iterator[None]:
    """While this is open, the kernels of PyTorch and transformers are replaced by their stand-ins."""
    with ExitStack() as replaced:
        replaced.enter_context(replace_sdpa(on_cpu))
        replaced.enter_context(compat.replace_grouped_product(grouped_product))
        yield
