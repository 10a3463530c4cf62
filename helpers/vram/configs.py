"""The config of a model: read from a folder or a file, without network and without code from outside."""

from pathlib import Path

from transformers import AutoConfig

from helpers import CourseError

#: The official config.json of Qwen1.5-MoE-A2.7B-Chat, byte for byte.
REAL_CONFIG = Path(__file__).parent / "qwen1.5-moe-a2.7b-chat.config.json"


def load_config(model: str | Path):
    """Config of a model folder or config.json, or of Qwen1.5-MoE-A2.7B-Chat for the word `real`.

    Returns a transformers config. CourseError if there is none.
    """
    path = Path(model)
    if str(model) == "real":
        path = REAL_CONFIG
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CourseError(f"{path.name} has no model config: give a model folder, or real.") from error
