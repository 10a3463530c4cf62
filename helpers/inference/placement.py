"""What this machine can do with a model folder, asked before anything is loaded.

The rule is `helpers.environment.decide`, as in the environment check and in the forecast. Here it gets the
memory that torch sees, and transformers' own planner: what that says of `device_map="auto"` is what
`from_pretrained` then does.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from helpers import GIB, CourseError, environment
from helpers.environment import (
    Capacity,
    Card,
    Kind,
    Memory,
    ModelSize,
    decide,
    real_planner,
    size_from_parameters,
)
from helpers.environment.model_size import EXPERT_COUNTS
from helpers.environment.planner import Planner
from helpers.inference.model_folder import weights_bytes
from helpers.settings import gpus_are_hidden

SMALL_MODEL = 100 * 2**20  # bytes of weights; so little is loaded anywhere
BF16_CAPABILITY = (8, 0)  # compute capability from which on a GPU computes in bf16
HOW_TO_OFFLOAD = (
    "If you want that, choose the model by its name and name a folder for the rest: "
    'load(choose_model("real"), offload_folder="offload"), in a terminal --model real '
    "--offload-folder offload. Delete that folder afterwards."
)


@dataclass(frozen=True)
class Placement:
    """Where a model folder goes on this machine, and how to load it so."""

    capacity: Capacity  # the answer of the rule
    options: dict  # arguments for from_pretrained
    sentence: str  # the answer for the learner
    weights: int  # bytes of the files
    bare_call_agrees: bool  # whether from_pretrained(device_map="auto", dtype=torch.bfloat16) does the same


def read_memory(disk_folder: Path | None = None) -> Memory:
    """Memory of this machine as in the environment check, but of the GPUs only what torch can use.

    `disk_folder`: where offloaded weights would go; default is where models go.
    """
    memory = environment.read_memory()
    memory = replace(memory, cards=torch_cards(memory.cards))
    if not memory.ram:  # the environment check knows Linux and its containers only
        memory = replace(memory, ram=psutil.virtual_memory().available)
    if disk_folder is not None:
        memory = replace(memory, disk=environment.free_disk(disk_folder))
    return memory


def torch_cards(listed: tuple[Card, ...] = ()) -> tuple[Card, ...]:
    """The GPUs that torch can use, with what is free on each after CUDA has taken its part.

    `listed`: the same GPUs as nvidia-smi describes them, if it does.
    """
    import torch  # imported late: it takes seconds

    if not torch.cuda.is_available():
        return ()
    torch.cuda.empty_cache()  # give back what torch keeps but no longer uses
    cards = []
    for gpu in range(torch.cuda.device_count()):
        described = torch.cuda.get_device_properties(gpu)
        try:
            free = torch.cuda.mem_get_info(gpu)[0]
        except RuntimeError:  # not even CUDA's own part fits: somebody holds all of it
            free = 0
        bf16 = (described.major, described.minor) >= BF16_CAPABILITY
        cards.append(Card(described.name, described.total_memory, free, bf16))
    if len(listed) == len(cards):
        free_bytes = [card.free for card in cards]
        cards = [replace(card, free=free) for card, free in zip(listed, free_bytes, strict=True)]
    return tuple(cards)


def read_config(model_dir: Path):
    """The config of a model folder; CourseError when it cannot be read, or is that of quantized weights."""
    from transformers import AutoConfig  # imported late: it takes seconds

    try:
        config = AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    except Exception as error:  # whatever a damaged config causes somewhere inside
        raise cannot_load(model_dir, error) from error
    if getattr(config, "quantization_config", None):
        raise CourseError(
            f"The weights of {model_dir.name} are quantized, which the course does not load: take the "
            "version of the model in bfloat16."
        )
    return config


def meta_model(model_dir: Path, dtype: str):
    """The model of a folder without its weights, on PyTorch's meta device. CourseError if there is none."""
    import torch  # imported late, as transformers: it takes seconds
    from transformers import AutoModelForCausalLM

    config = read_config(model_dir)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                config, dtype=getattr(torch, dtype), trust_remote_code=False
            )
    except Exception as error:  # whatever a config that makes no sense causes somewhere inside
        raise cannot_load(model_dir, error) from error


def size_of(name: str, model) -> ModelSize:
    """The size of a model block by block, from its parameters; it may be on meta."""
    config = model.config.get_text_config()
    experts = next((getattr(config, key) for key in EXPERT_COUNTS if getattr(config, key, None)), 0)
    chosen = getattr(config, "num_experts_per_tok", None) or 0
    parameters = [(key, parameter.numel()) for key, parameter in model.named_parameters()]
    return size_from_parameters(name, parameters, experts, chosen)


def find_placement(model_dir: Path, offload_folder: str | Path | None = None) -> Placement:
    """Decide where a complete model folder goes on this machine, now.

    `offload_folder`: a folder for what fits neither on the GPUs nor in RAM; naming it is the learner's
    agreement. CourseError, with the figures, when the model cannot be loaded.
    """
    weights = weights_bytes(model_dir)
    model = meta_model(model_dir, "bfloat16")
    disk_folder = None
    if offload_folder is not None:
        disk_folder = Path(offload_folder).expanduser().absolute()
    memory = read_memory(disk_folder)
    size = size_of(model_dir.name, model)

    def make_model(dtype: str):
        if dtype == "bfloat16":
            return model
        return meta_model(model_dir, dtype)

    return place(size, memory, real_planner(make_model), weights, disk_folder)


def place(
    size: ModelSize, memory: Memory, planner: Planner, weights: int, disk_folder: Path | None = None
) -> Placement:
    """Decide where a model of this size goes in this memory; `weights`: bytes of its files.

    CourseError when it cannot go anywhere, and when it needs the disk and no `disk_folder` is named.
    """
    small = weights < SMALL_MODEL
    capacity = decide(size, memory, planner)
    if small and not capacity.loads:  # the rule keeps more RAM free than so small a model needs
        capacity = Capacity(Kind.RAM, "", "bfloat16", in_ram=weights)
    options = dict(capacity.options)
    sentence = capacity.sentence
    if small:
        sentence = small_sentence(capacity, weights)
    if not capacity.loads:
        if capacity.kind is not Kind.DISK:
            raise CourseError(sentence)
        if disk_folder is None:
            raise CourseError(f"{sentence} {HOW_TO_OFFLOAD}")
        options["offload_folder"] = str(disk_folder)
    agrees = small or bare_placement(memory, planner) == capacity_placement(capacity, memory)
    agrees = agrees and capacity.dtype == "bfloat16"
    return Placement(capacity, options, sentence, weights, agrees)


def small_sentence(capacity: Capacity, weights: int) -> str:
    """What to say of a small model, which is the same on every machine without a GPU."""
    where = "on the CPU"
    if capacity.kind is Kind.GPUS:
        where = f"in {capacity.dtype} on {len(capacity.on_gpus)} GPU(s)"
    return f"{weights / GIB:.2f} GiB in bfloat16, loaded {where}."


def bare_placement(memory: Memory, planner: Planner) -> list[int]:
    """Bytes on each GPU, in RAM and on disk after the call that `check_placement` speaks of."""
    free = {gpu: card.free for gpu, card in enumerate(memory.cards)}
    placed = planner("bfloat16", {**free, "cpu": memory.ram}, False)
    return [*(placed[gpu] for gpu in free), placed["cpu"], placed["disk"]]


def capacity_placement(capacity: Capacity, memory: Memory) -> list[int]:
    """Bytes on each GPU, in RAM and on disk that the rule announces."""
    on_gpus = capacity.on_gpus or (0,) * len(memory.cards)
    return [*on_gpus, capacity.in_ram, capacity.on_disk]


def check_placement(model_dir: str | Path) -> None:
    """Say what `from_pretrained(model_dir, dtype=torch.bfloat16, device_map="auto")` will do on this machine.

    CourseError, with the same sentence as `load`, when the model does not fit, and when it fits only with
    other arguments than these.
    """
    placement = find_placement(Path(model_dir))
    if not placement.bare_call_agrees:
        raise CourseError(
            f"{placement.sentence} from_pretrained does this only with further arguments: use "
            "model, tokenizer = load(model_dir), from helpers.inference, instead."
        )
    print(f"Weights: {placement.sentence}{unused_gpus()}{apple_note()}")


def apple_note() -> str:
    """What `check_placement` adds on a Mac with Apple's own processor; "" elsewhere."""
    import torch  # imported late: it takes seconds

    if not torch.backends.mps.is_available():
        return ""
    return ' On this Mac, device_map="auto" takes its GPU (mps) instead, which the course does not test.'


def unused_gpus() -> str:
    """A hint where GPUs are there that torch cannot use; "" where there is nothing to say."""
    if gpus_are_hidden() or torch_cards():
        return ""
    found = len(environment.read_memory().cards)
    if not found:
        return ""
    return f" nvidia-smi lists {found} GPU(s) that torch cannot use: run python -m helpers.environment."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of a GPU ran out."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def cannot_load(model_dir: Path, error: Exception) -> CourseError:
    """The sentence for what went wrong with a model folder inside of transformers: the first line of it."""
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    if is_out_of_memory(error):
        return CourseError(
            f"The memory ran out while {model_dir.name} was loaded ({first_line}): shut down the other "
            "kernels and programs that use it, restart this kernel, and load again."
        )
    return CourseError(f"transformers cannot load {model_dir.name} ({first_line}): look into that file.")
