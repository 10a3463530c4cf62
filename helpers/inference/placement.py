"""What this machine can do with a model folder, asked before anything is loaded.

The rule is `helpers.environment.decide`, as in the environment check and in the forecast. Here it gets the
memory that torch sees, and transformers' own planner: what that says of `device_map="auto"` is what
`from_pretrained` then does.
"""

from dataclasses import dataclass
from pathlib import Path

from helpers import GIB, CourseError
from helpers.environment import Capacity, Kind, Memory, ModelSize, decide, real_planner
from helpers.environment.planner import Planner
from helpers.inference.memory import read_memory, unused_gpus
from helpers.inference.meta_model import meta_model, size_of
from helpers.inference.model_folder import folder_of, weights_bytes
from helpers.language import say, to_say
from helpers.terminal import in_a_row

SMALL_MODEL = 100 * 2**20  # bytes of weights; so little is loaded anywhere
HOW_TO_OFFLOAD = to_say(
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

    return decide_placement(size, memory, real_planner(make_model), weights, disk_folder)


def decide_placement(
    size: ModelSize, memory: Memory, planner: Planner, weights: int, disk_folder: Path | None = None
) -> Placement:
    """Ask the rule where a model of this size goes in this memory; `weights`: bytes of its files.

    CourseError when it cannot go anywhere, and when it needs the disk and no `disk_folder` is named.
    """
    small = weights < SMALL_MODEL
    capacity = decide(size, memory, planner)
    options = dict(capacity.options)
    sentence = capacity.sentence
    if small:
        sentence = small_sentence(capacity, weights)
    if not capacity.loads:
        if capacity.kind is not Kind.DISK:
            raise CourseError(sentence)
        if disk_folder is None:
            raise CourseError(in_a_row(sentence, say(HOW_TO_OFFLOAD)))
        options["offload_folder"] = str(disk_folder)
    agrees = small or bare_placement(memory, planner) == capacity_placement(capacity, memory)
    agrees = agrees and capacity.dtype == "bfloat16"
    return Placement(capacity, options, sentence, weights, agrees)


def small_sentence(capacity: Capacity, weights: int) -> str:
    """What to say of a small model, which is the same on every machine without a GPU."""
    size = weights / GIB
    if capacity.kind is Kind.GPUS:
        return say(
            "Weights: {size:.2f} GiB in bfloat16, loaded in {dtype} on {count} GPU(s).",
            size=size,
            dtype=capacity.dtype,
            count=len(capacity.on_gpus),
        )
    return say("Weights: {size:.2f} GiB in bfloat16, loaded on the CPU.", size=size)


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
    placement = find_placement(folder_of(model_dir))
    if not placement.bare_call_agrees:
        raise CourseError(
            in_a_row(
                placement.sentence,
                say(
                    "from_pretrained does this only with further arguments: use model, tokenizer = "
                    "load(model_dir), from helpers.inference, instead."
                ),
            )
        )
    print(in_a_row(placement.sentence, unused_gpus(), apple_note()))


def apple_note() -> str:
    """What `check_placement` adds on a Mac with Apple's own processor; "" elsewhere."""
    import torch  # imported late: it takes seconds

    if not torch.backends.mps.is_available():
        return ""
    return say('On this Mac, device_map="auto" takes its GPU (mps) instead, which the course does not test.')
