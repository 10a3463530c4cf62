"""The limit that a memory sets: bytes that it reads in a second, divided by bytes that a token needs.

To compute a token, all weights that take part must be read once. A batch of B sequences reads what they share
once for all of them. With R bytes that every token needs, L layers of E experts of e bytes, and k experts of
each layer for a token:

    different experts of a layer   D = E * (1 - (1 - k/E)^B)      if every expert is chosen equally often
    bytes for each token           (R + L * D * e) / B

An expert is left out by one token with probability 1 - k/E, by all B with its B-th power; that gives D. Left
out of the count are the embedding, of which a token reads one row, and the KV cache: so the limit may be too
high, never too low.
Sizes in bytes, GB = 10^9 bytes, as in the data sheets of the cards.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

from helpers import GB, CourseError, compat
from helpers.language import say
from helpers.speed.arguments import check_whole


class Card(NamedTuple):
    """A GPU and what its maker says of its memory."""

    name: str
    bandwidth: float
    """Bytes per second."""
    source: str
    """Where NVIDIA says so."""


#: Memory bandwidth as published. A card of the same name in another form (PCIe) is often slower.
CARDS = (
    Card("RTX 3090", 936 * GB, "NVIDIA Ampere GA102 GPU Architecture, whitepaper: 384 bits x 19.5 Gbit/s"),
    Card("A100 80GB SXM", 2039 * GB, "NVIDIA A100 Tensor Core GPU, data sheet: 2,039 GB/s"),
    Card("H100 SXM", 3350 * GB, "NVIDIA H100 Tensor Core GPU, data sheet: 3.35 TB/s"),
    Card("H200 SXM", 4800 * GB, "NVIDIA H200 Tensor Core GPU, data sheet: 4.8 TB/s"),
)


#: Of a buffer that is so small that one reading takes less time than the clock can tell.
MOST_READS = 1000


def expected_experts(experts: int, chosen: int, batch: int) -> float:
    """How many different experts of a layer `batch` tokens use, if each is chosen equally often.

    `experts` of the layer, of which each token uses `chosen`. CourseError for numbers that no layer has.
    """
    check_whole("batch", batch, least=1)
    if not 1 <= chosen <= experts:
        raise CourseError(
            say(
                "A token cannot use {chosen} of {experts} experts: give a number from 1 to all of them.",
                chosen=chosen,
                experts=experts,
            )
        )
    left_out = (1 - chosen / experts) ** batch  # the probability that no token uses a certain expert
    return experts * (1 - left_out)


@dataclass(frozen=True)
class WeightBytes:
    """The weights of a model, sorted by who needs them. `layers` to `chosen` are 0 for a dense model."""

    rest: int
    """R: bytes of what every token needs, so of all but the routed experts and the embedding."""
    embedding: int
    """Bytes of the embedding; 0 where it is the output layer too, and so part of the rest."""
    layers: int
    """L: layers with routed experts."""
    experts: int
    """E: routed experts of each of them."""
    expert: int
    """e: bytes of one routed expert."""
    chosen: int
    """k: experts of a layer that a token uses."""

    @property
    def total(self) -> int:
        """Bytes of all weights."""
        return self.rest + self.embedding + self.layers * self.experts * self.expert

    def per_step(self, batch: int = 1) -> float:
        """Bytes that one step reads, in which each of `batch` sequences gets a token. CourseError below 1."""
        check_whole("batch", batch, least=1)
        if self.layers == 0:
            return self.rest
        different = expected_experts(self.experts, self.chosen, batch)
        return self.rest + self.layers * different * self.expert

    def per_token(self, batch: int = 1) -> float:
        """Bytes for each token of such a step."""
        return self.per_step(batch) / batch

    def limit(self, bandwidth: float, batch: int = 1) -> float:
        """Tokens per second, of all sequences together, with a memory of `bandwidth` bytes a second."""
        return bandwidth / self.per_token(batch)


def weight_bytes(model) -> WeightBytes:
    """Count the weights of a model, also of one on the meta device, by its parameters.

    CourseError if its layers have experts of different number or size: the formula knows one size only.
    """
    text_config = model.config.get_text_config()
    kinds = []  # (experts, bytes of all of them) of each layer that has some
    for module in compat.fused_experts(model).values():
        weights = list(module.parameters())  # each (experts, ..., ...)
        kinds.append((weights[0].shape[0], sum(weight.nbytes for weight in weights)))
    if len(set(kinds)) > 1:
        raise CourseError(
            say(
                "The layers of this model have {kinds} kinds of experts: count each kind by itself.",
                kinds=len(set(kinds)),
            )
        )
    total = sum(weight.nbytes for weight in model.parameters())
    embedding = embedding_alone(model)
    if not kinds:
        return WeightBytes(total - embedding, embedding, layers=0, experts=0, expert=0, chosen=0)
    experts, routed_of_a_layer = kinds[0]
    return WeightBytes(
        rest=total - embedding - len(kinds) * routed_of_a_layer,
        embedding=embedding,
        layers=len(kinds),
        experts=experts,
        expert=routed_of_a_layer // experts,
        chosen=text_config.num_experts_per_tok,
    )


def embedding_alone(model) -> int:
    """Bytes of the embedding; 0 where the output layer, which is read whole, is the same tensor."""
    embedding = model.get_input_embeddings().weight
    output = model.get_output_embeddings()
    if output is not None and output.weight is embedding:
        return 0
    return embedding.nbytes


def read_bandwidth(device="cpu", size: int = 2**28, repeats: int = 5) -> float:
    """Bytes per second that `device` reads, measured now: the fastest of some sums over `size` bytes.

    The fastest, because a limit is asked for, and whatever else runs can only make it slower. On a CPU it is
    that of the threads that PyTorch uses now, and of the processor's cache instead of the memory if `size`
    bytes fit there: so give the size of the model that you compare with. At most half of a GPU's free memory
    is taken. CourseError for a device that is not there, and for less than a byte or a try.
    """
    import torch  # imported late: it takes seconds

    check_whole("size", size, least=1)
    check_whole("repeats", repeats, least=1)
    device = device_that_is_there(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        size = min(size, free // 2)
    numbers = torch.ones(max(1, size // 4), dtype=torch.float32, device=device)  # 4 bytes each
    numbers.sum().item()  # the first time pays for what happens once
    # Small ones are read several times, so that the clock can tell, but tiny ones not for minutes.
    reads = min(max(1, 2**28 // numbers.nbytes), MOST_READS)
    fastest = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(reads):
            total = numbers.sum()
        total.item()  # waits for a GPU
        fastest = min(fastest, time.perf_counter() - start)
    return reads * numbers.nbytes / fastest


def device_that_is_there(name):
    """The torch.device of this name; CourseError if PyTorch knows none, or finds none here."""
    import torch  # imported late: it takes seconds

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CourseError(say("PyTorch knows no device {name}: give cpu or cuda.", name=name)) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CourseError(
            say(
                "PyTorch sees {count} CUDA GPUs here, so there is no {name}: measure another device, such as "
                "cpu.",
                count=torch.cuda.device_count(),
                name=name,
            )
        )
    return device
