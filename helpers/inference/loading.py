"""Load a model folder: files, place, attention, weights."""

from pathlib import Path

from helpers.inference.attention import choose_attention, flash_attn_state
from helpers.inference.errors import cannot_load, weights_are_missing
from helpers.inference.memory import unused_gpus
from helpers.inference.placement import SMALL_MODEL, find_placement
from helpers.language import say
from helpers.terminal import in_a_row


def load(model_dir: str | Path, offload_folder: str | Path | None = None):
    """Load a model folder, say where it goes, and return (model, tokenizer). CourseError when it cannot.

    `offload_folder`: where weights may go that fit neither on the GPUs nor in RAM. Every token then reads
    them from the disk, which is very slow; so this happens only if a folder is named.
    """
    model_dir = Path(model_dir)
    # 1. Are the files there, and where can this machine hold them?
    placement = find_placement(model_dir, offload_folder)

    # 2. How is attention computed there?
    import torch  # imported late: torch takes seconds, and a wrong folder is answered at once

    capabilities = []
    if placement.options["device_map"] != "cpu":
        gpus = range(torch.cuda.device_count())
        capabilities = [torch.cuda.get_device_capability(gpu) for gpu in gpus]
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
    return model, tokenizer
