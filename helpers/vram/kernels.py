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

EAGER_IMBALANCE = 2.0  # assumption for eager experts: tokens of the busiest expert over its fair share

#: What transformers calls an implementation -> the stand-in that the model on `meta` gets. The name must not
#: contain "flash": transformers would look for the package.
ATTENTION_STAND_INS = {"flash_attention_2": "ledger_fa2"}
EXPERTS_STAND_INS = {"eager": "ledger_eager"}


def fused_attention(query, key, value, *mask, **options):
    """Attention `sdpa`: one output. A matrix of scores, (batch, heads, queries, keys), never exists.

    `query`, `key`, `value`: (batch, heads, tokens, size of a head). The output has the same order, but lies
    in memory as (batch, tokens, heads, size).
    """
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)


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


def every_mask_has_padding(mask) -> bool:
    """transformers asks whether a mask is all ones, to drop it; on `meta` there are no numbers to look at."""
    return False


AttentionInterface.register("ledger_fa2", flash_attention_2)
AttentionMaskInterface.register("ledger_fa2", padding_mask)
compat.register_experts("ledger_eager", eager_experts)


def replace_sdpa():
    """Context manager: the stand-in for PyTorch's fused attention."""
    return mock.patch("torch.nn.functional.scaled_dot_product_attention", fused_attention)


@contextmanager
def stand_ins() -> Iterator[None]:
    """While this is open, the kernels of PyTorch and transformers are replaced by their stand-ins."""
    with ExitStack() as replaced:
        replaced.enter_context(replace_sdpa())
        replaced.enter_context(compat.replace_grouped_product(grouped_product))
        replaced.enter_context(compat.replace_look_at_masks(every_mask_has_padding))
        yield
