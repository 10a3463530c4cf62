"""Load a model folder: files, place, attention, weights."""

from pathlib import Path

from helpers.inference.attention import choose_attention, flash_attn_state
from helpers.inference.errors import cannot_load, weights_are_missing
from helpers.inference.memory import unused_gpus
from helpers.inference.model_folder import folder_of
from helpers.inference.placement import SMALL_MODEL, Placement, find_placement
from helpers.inference.recommended import apply_recommended
from helpers.language import say
from helpers.terminal import in_a_row


def load(model_dir: str | Path, offload_folder: str | Path | None = None, *, recommended: bool = False):
    """Load a model folder, say where it goes, and return (model, tokenizer). CourseError when it cannot.

    `offload_folder`: where weights may go that fit neither on the GPUs nor in RAM. Every token then reads
    them from the disk, which is very slow; so this happens only if a folder is named.
    `recommended`: set experts, cache and compiling as is fastest on this kind of machine, and say what that
    brings (notebook 07); as loaded otherwise.
    """
    model_dir = folder_of(model_dir)
    # 1. Are the files there, and where can this machine hold them?
    placement = find_placement(model_dir, offload_folder)

    # 2. How is attention computed there?
    import torch  # imported late: torch takes seconds, and a wrong folder is answered at once

    capabilities = capabilities_for(placement)
    attention = choose_attention(flash_attn_state(), capabilities)
    print(in_a_row(placement.sentence, unused_gpus()))
    print(say("Attention: {name} ({reason}).", name=attention.name, reason=attention.reason))

    # 3. Load: first what takes no time, so that a damaged tokenizer is noticed before the weights are read.
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # imported late: it takes seconds

    if placement.weights < SMALL_MODEL:
        logging.disable_progress_bar()
        torch.set_num_threads(1)  # sharing out work this small costs more than the work itself
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
        model, found = AutoModelForCausalLM.from_pretrained(
            model_dir,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention.name,
            **placement.options,
        )
    except Exception as error:  # whatever a broken file causes somewhere inside
        raise cannot_load(model_dir, error) from error
    if found["missing_keys"]:
        raise weights_are_missing(model_dir, set(found["missing_keys"]))
    if recommended:
        apply_recommended(model, placement.capacity, capabilities)
    return model, tokenizer


def capabilities_for(placement: Placement) -> list[tuple[int, int]]:
    """Compute capability, as in (8, 6), of each GPU; none if the model goes to the CPU."""
    import torch  # imported late: it takes seconds

    if placement.options["device_map"] == "cpu":
        return []
    return [torch.cuda.get_device_capability(gpu) for gpu in range(torch.cuda.device_count())]
