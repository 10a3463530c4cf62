"""Record which experts every token is sent to, while the model runs.

with RoutingRecorder(model) as recorder:
    model.generate(**inputs)
table = recorder.routing.to_frame(tokenizer)
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from helpers import CourseError, compat
from helpers.language import say, to_say
from helpers.routing.caches import CacheRecords
from helpers.routing.columns import add_to_counts, columns_for_counting, columns_of_pass, join_passes
from helpers.routing.generating import checked_generate
from helpers.routing.passes import check_inputs, read_pass
from helpers.routing.routers import Router, RouterOutput, find_routers, find_shared_gates
from helpers.routing.table import Routing

COMPILED = to_say(
    "The routing cannot be recorded: compiled code runs without hooks; record before torch.compile, or load "
    "the model again."
)
NOTHING_KEPT = to_say("No routing is kept: run the model inside the with block, without counts_only.")


class RoutingRecorder:
    """Context manager that keeps what a model's routers return in every forward pass, also in `generate()`.

    Padding is left out, and so are the end and padding tokens that `generate()` feeds to the finished
    sequences of a batch. Passes with one KV cache belong to the same sequences; an empty cache, or none,
    starts new ones. Guessed tokens that assisted decoding or prompt lookup crops off the cache are left out;
    the others count as prefill, because several are computed at once. (The guesses of a model that is its own
    assistant are a sequence of their own.) Threads may run the model together if each has its own cache.

    CourseError where a recording would be wrong, and again when you ask for it: beam search, guidance,
    `use_cache=False`, `generate_batch`, static caches, embeddings instead of tokens; and on entering the
    block if the model is compiled. In the block, `model.generate` checks its options first.

    Memory until the block ends, on the first router's device: k * (2 + bytes of a weight) per token and layer
    (16 bytes in bf16 with k = 4; a shared gate adds 2) and 18 bytes a token; after `generate()` also one
    layer of its KV cache, until the next pass. `counts_only` gives no `routing` but `counts`, tokens per
    expert (L, all experts): 8 bytes each. A GPU is waited for at the end, and in passes without a cache.
    """

    def __init__(self, model, *, keep_logits: bool = False, counts_only: bool = False):
        self.model = model
        self.keep_logits = keep_logits
        self.counts_only = counts_only
        self.counts = None
        self._routers = find_routers(model)
        self._layers = [router.layer for router in self._routers]
        self._gates = find_shared_gates(model, self._layers)
        self._end_tokens = end_tokens(model)
        self._routing = None
        self._refusal = None

    def __enter__(self) -> "RoutingRecorder":
        if compat.is_compiled(self.model):
            raise CourseError(say(COMPILED))
        self.counts = None
        self._routing = None
        self._refusal = None
        self._number_of_layers = number_of_layers(self.model)
        self._running = threading.local()  # .outputs: what routers and gates returned in this thread's pass
        self._lock = threading.Lock()  # for the records and the counts
        self._records = CacheRecords()
        base = self.model.base_model
        with ExitStack() as hooks:  # an interrupt in here removes the hooks as well
            hooks.enter_context(checked_generate(self.model, self._remembered_refusals))
            before = base.register_forward_pre_hook(self._before_pass, with_kwargs=True)
            hooks.callback(before.remove)
            routers = [router.module for router in self._routers]
            for module in routers + self._gates:
                hooks.callback(module.register_forward_hook(self._keep_output).remove)
            after = base.register_forward_hook(self._after_pass, with_kwargs=True)
            hooks.callback(after.remove)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()
        with self._lock:
            if self._refusal is not None:
                self.counts = None
                return
            self._records.look_at_the_caches(next_cache=None)
            passes = self._records.take_passes()
            if self.counts_only:
                self.counts = add_to_counts(self.counts, passes)
            elif passes:
                self._routing = join_passes([kept.columns for kept in passes], self._layers)
            if self.counts is not None:
                self.counts = self.counts.cpu().numpy()

    @property
    def routing(self) -> Routing:
        """Everything recorded, once the `with` block has ended (also by an interrupt).

        CourseError if there is nothing: no pass was run, only counts were kept, or a pass was refused.
        """
        if self._refusal is not None:
            raise CourseError(self._refusal)
        if self._routing is None:
            raise CourseError(say(NOTHING_KEPT))
        return self._routing

    def _before_pass(self, module, args, kwargs) -> None:
        self._running.outputs = {}
        with self._remembered_refusals(), self._lock:
            check_inputs(kwargs)
            self._records.look_at_the_caches(kwargs.get("past_key_values"))
            if self.counts_only:
                self.counts = add_to_counts(self.counts, self._records.take_passes())

    @contextmanager
    def _remembered_refusals(self) -> Iterator[None]:
        """Keep the sentence of a CourseError: `generate_batch` runs passes in a thread, which swallows it."""
        try:
            yield
        except CourseError as error:
            self._refusal = str(error)
            raise

    def _keep_output(self, module, args, output) -> None:
        outputs = getattr(self._running, "outputs", None)
        if outputs is not None:  # None: a layer that somebody runs alone, or again for its gradients
            outputs[module] = output

    def _after_pass(self, module, args, kwargs, output) -> None:
        outputs = self._running.outputs
        self._running.outputs = None
        if number_of_layers(module) < self._number_of_layers:
            return  # a guess of the first layers alone, for assistant_early_exit: no text
        with self._remembered_refusals():
            read = read_pass(kwargs, output, self._end_tokens)
            routers = [read_router(router, outputs) for router in self._routers]
            gates = [outputs[gate] for gate in self._gates]
            if self.counts_only:
                columns = columns_for_counting(read, routers)
            else:
                columns = columns_of_pass(read, routers, gates, keep_logits=self.keep_logits)
            with self._lock:
                self._records.add(read, columns)


def end_tokens(model) -> set[int]:
    """The tokens that `generate()` feeds to finished sequences: its end tokens and padding."""
    config = getattr(model, "generation_config", model.config)
    tokens = set(np.atleast_1d(config.eos_token_id).tolist())
    tokens.add(config.pad_token_id)
    tokens.discard(None)
    return tokens


def number_of_layers(model) -> int:
    """How many layers a pass runs, by the configuration; assistant_early_exit lowers it for its guesses."""
    return model.config.get_text_config().num_hidden_layers


def read_router(router: Router, outputs: dict) -> RouterOutput:
    """What a router returned in this pass. CourseError if it did not run."""
    if router.module not in outputs:
        raise CourseError(
            say(
                "The routing cannot be recorded: the router of layer {layer} did not run in this pass; run "
                "all layers.",
                layer=router.layer,
            )
        )
    return router.read(outputs[router.module])
