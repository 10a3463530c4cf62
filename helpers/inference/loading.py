"""Load a model folder: files, place, attention, weights."""

from pathlib import Path

from helpers import CourseError
from helpers.inference.attention import choose_attention, has_flash_attn
from helpers.inference.memory import gpu_holders, read_free_memory
from helpers.inference.model_folder import weights_bytes
from helpers.inference.placement import place

SMALL_MODEL = 100 * 2**20  # bytes


def load(model_dir: Path):
    """Load a model folder, say where it goes, and return (model, tokenizer). CourseError when it cannot."""
    model_dir = Path(model_dir)
    # 1. Are the files there, and can this machine hold them?
    size = weights_bytes(model_dir)
    memory = read_free_memory()
    try:
        placement = place(size, memory)
    except CourseError as error:
        if not memory.gpus:
            raise
        raise CourseError(f"{error} {gpu_holders()}") from None

    # 2. How is attention computed there?
    import torch  # imported late: torch takes seconds, and a wrong folder is answered at once

    capabilities = []
    if placement.device_map == "auto":
        capabilities = [torch.cuda.get_device_capability(gpu) for gpu in range(len(memory.gpus))]
    attention = choose_attention(has_flash_attn(), capabilities)
    print(f"Weights: {placement.reason}.\nAttention: {attention.name} ({attention.reason}).")

    # 3. Load.
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # imported late: it takes seconds

    if size < SMALL_MODEL:
        logging.disable_progress_bar()
        torch.set_num_threads(1)  # sharing out work this small costs more than the work itself
    try:
        model = AutoModelForCausalLM.from_pretrained(
            model_dir,
            use_safetensors=True,
            dtype=placement.dtype,
            device_map=placement.device_map,
            attn_implementation=attention.name,
        )
        return model, AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # whatever a broken file causes somewhere inside
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CourseError(f"transformers cannot load {model_dir.name}: {first_line}") from error
