"""The memory of one GPU over time: what the ledger notes, change after change.

The picture has no seconds: every allocation and every release is one step to the right.
"""

from helpers.vram.configs import load_config
from helpers.vram.forecasting import CUBLAS_WORKSPACE, capacity_of, gpu_sizes, parameters_by_place, place
from helpers.vram.simulation import Simulation, meta_model

DECODE_STEPS = 6  # how many of the decoding steps are shown, from the first to the last


class TimelineSimulation(Simulation):
    """A simulation that keeps its history by phase, and decodes some tokens on the way to the last one.

    `history`: phase -> list of (GPU, bytes above the weights).
    """

    def loop(self, model, input_ids, logits_processor, stopping_criteria, generation_config, **inputs):
        """The loop of generate(), see `Simulation.loop`."""
        self.input_ids = input_ids
        self.inputs = inputs
        self.ledger.history = []
        self.turn(logits_processor, generation_config, past=0)
        self.history = {"prefill": self.ledger.history, "decode": []}
        self.cache = self.inputs["past_key_values"]
        model.set_experts_implementation("batched_mm")  # as generate() does on a GPU
        for past in decoding_steps(input_ids.shape[1], self.new):
            self.ledger.history = None  # a larger cache is put in place: no step of a real run
            self.grow(past)
            self.ledger.history = []
            self.turn(logits_processor, generation_config, past)
            self.history["decode"] += self.ledger.history
        self.ledger.history = None
        return self.input_ids


def decoding_steps(prompt: int, new: int) -> list[int]:
    """How many tokens are in the cache at the decoding steps that are shown; the last is the longest."""
    first = prompt
    last = prompt + new - 2
    steps = {first + (last - first) * step // (DECODE_STEPS - 1) for step in range(DECODE_STEPS)}
    return sorted(step for step in steps if first <= step <= last)


def loading_history(parameters: dict) -> list[int]:
    """Bytes on a GPU while its weights arrive one after the other. `parameters`: {parameter: its name}.

    The experts of a layer come as many small tensors and are put together: at that moment the largest of the
    fused tensors is there twice.
    """
    live = 0
    history = [live]
    for parameter, name in parameters.items():
        if "experts.gate_up" in name:
            history.append(live + 2 * parameter.nbytes)
        live += parameter.nbytes
        history.append(live)
    return history


def memory_over_time(config, gpus, gpu: int = 0, batch: int = 1, prompt: int = 2048, new: int = 512) -> dict:
    """Bytes in use on one GPU, as a list for each of the phases "loading", "prefill" and "decode".

    `config` and `gpus`: as for `forecast`; the model has fused experts, attention is sdpa. Of decoding, six
    of the steps are there, evenly spaced. What is counted: weights, PyTorch's workspace for products, and the
    tensors of a request. The last tensors of a list may be freed only in the next one.
    """
    if not hasattr(config, "model_type"):
        config = load_config(config)
    model = meta_model(config)
    sizes = gpu_sizes(gpus)
    capacity = capacity_of(model, sizes, "bfloat16", ram=None)
    placement = place(model, sizes, capacity, ram=None)
    parameters = parameters_by_place(model, placement)[gpu]
    simulation = TimelineSimulation(model, placement, new, padding=False, on_cpu=False)
    simulation.run(batch, prompt, sampling=False)
    base = sum(parameter.nbytes for parameter in parameters) + CUBLAS_WORKSPACE
    over_time = {"loading": loading_history(parameters)}
    for phase, history in simulation.history.items():
        over_time[phase] = [base + live for where, live in history if where == gpu]
    return over_time
