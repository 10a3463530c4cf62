"""One process of several that share a model: torchrun starts it, as `python -m helpers.speed.rank FOLDER`.

FOLDER holds task.json and the logits of one process. This process writes into it, N being its rank:
rank_N.step (what it is doing), rank_N.alive (touched twice a second), rank_N.error, and at last rank_N.json.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import distributed
from transformers import AutoModelForCausalLM, AutoTokenizer, logging
from transformers.distributed import DistributedConfig

from helpers.speed.ways import sizes

HEARTBEAT = 0.5  # seconds


def load_part(folder: str | Path, question: str, **options):
    """The model, or with a `distributed_config` this process's part of it, in fp32, and the question's ids.

    Returns (model, input_ids), input_ids (1, tokens).
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    chat = [{"role": "user", "content": question}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **options
    )
    return model, inputs["input_ids"]


def answer_to(model, input_ids, new_tokens: int):
    """Greedy new tokens, as a list, and the logits of the prompt, (tokens, vocabulary)."""
    with torch.inference_mode():
        logits = model(input_ids).logits[0]
        # The same for every process of a group: they all compute every token.
        tokens = model.generate(input_ids, do_sample=False, max_new_tokens=new_tokens)
    return tokens[0, input_ids.shape[1] :].tolist(), logits


def bytes_held(model) -> int:
    """Bytes of the weights that this process holds."""
    total = 0
    for parameter in model.parameters():
        part = parameter
        if hasattr(parameter, "to_local"):  # cut by tensor or expert parallelism
            part = parameter.to_local()
        if part.device.type != "meta":  # a layer that another process of the pipeline holds
            total += part.numel() * part.element_size()
    return total


class Diary:
    """What this process writes down about itself while it runs."""

    def __init__(self, folder: Path, rank: int):
        self._folder = folder
        self._rank = rank
        self._steps = 0

    def write(self, kind: str, text: str) -> None:
        """Write `rank_N.KIND`, whole or not at all."""
        unfinished = self._folder / f"rank_{self._rank}.{kind}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(self._folder / f"rank_{self._rank}.{kind}")

    def step(self, what: str) -> None:
        """Say what comes now."""
        self._steps += 1
        self.write("step", f"{self._steps} {what}")

    def beat(self) -> None:
        """Show that this process lives, and end it if torchrun has gone without a word."""
        parent = os.getppid()
        while os.getppid() == parent:
            (self._folder / f"rank_{self._rank}.alive").touch()
            time.sleep(HEARTBEAT)
        # The main thread may wait for another process, and would not hear of a polite word.
        os.kill(os.getpid(), signal.SIGKILL)


def work(folder: Path, diary: Diary) -> dict[str, dict]:
    """Do the task; returns for each way what is to be known about it."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    expected = load_file(folder / "one_process.safetensors")["logits"]  # (tokens, vocabulary)
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # the plan names matrices of models without experts, and is told so
    diary.step("connecting")
    distributed.init_process_group("gloo")
    processes = distributed.get_world_size()
    results = {}
    for way in task["ways"]:
        diary.step(f"loading {way}")
        config = DistributedConfig(**sizes(way, processes))
        model, input_ids = load_part(task["folder"], task["question"], distributed_config=config)
        diary.step(f"answering {way}")
        tokens, logits = answer_to(model, input_ids, task["new_tokens"])
        results[way] = {
            "bytes": bytes_held(model),
            "same_tokens": tokens == task["tokens"],
            "largest_difference": (logits - expected).abs().max().item(),
        }
    diary.step("leaving")
    distributed.barrier()
    distributed.destroy_process_group()
    return results


def main() -> None:
    folder = Path(sys.argv[1])
    diary = Diary(folder, int(os.environ["RANK"]))
    threading.Thread(target=diary.beat, daemon=True).start()
    torch.set_num_threads(1)
    try:
        results = work(folder, diary)
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        diary.write("error", f"{type(error).__name__}: {lines[0]}")
        raise
    diary.write("json", json.dumps(results))


if __name__ == "__main__":
    main()
