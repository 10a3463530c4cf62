"""Choose a model, load it, and chat with it: notebook 04 as functions, and as a command for a terminal.

    python -m helpers.inference "Give me a short introduction to large language model."

torch and transformers are imported inside the functions: they take seconds, a wrong argument is answered at once.
"""

import argparse
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers import EMBEDDED_MODEL, CourseError, record_file

GIB = 2**30
RESERVE = 1 * GIB  # per GPU: loading needs up to 0.65 GiB above the weights, and an answer needs room too


def choose_model() -> Path:
    """Return the model folder for this machine and print which, why, and how to switch. Never downloads.

    `COURSE_MODEL` (a folder, or `embedded`) comes first; a wrong folder is a CourseError. Then the folder that
    notebook 03 recorded, if it is complete and this machine can hold it; else the embedded model.
    """
    folder, name, why = EMBEDDED_MODEL, "the embedded toy model", "COURSE_MODEL asks for it"
    wanted = os.environ.get("COURSE_MODEL", "").strip()
    if wanted and wanted != "embedded":
        folder = Path(wanted).expanduser()
        name = folder.name
        if not (folder / "config.json").is_file():
            raise CourseError(
                f"{name} is no model folder (no config.json): correct the path, or use embedded."
            )
    elif not wanted:
        try:
            record = json.loads(record_file().read_text(encoding="utf-8"))
            recorded, model_id = Path(record["folder"]), str(record["model_id"])
            plan_placement(weights_bytes(recorded), *machine())
            folder, name, why = recorded, model_id, "notebook 03 downloaded it"
        except FileNotFoundError:
            why = "notebook 03 has not downloaded another one"
        except CourseError as error:
            why = f"the downloaded one cannot be used ({str(error).rstrip('.')})"
        except (OSError, ValueError, LookupError, TypeError):
            why = "the record of the downloaded one cannot be read (run notebook 03 again)"
    print(f"Model: {name}, because {why}. To switch, set COURSE_MODEL to a model folder or to embedded.")
    return folder


def weights_bytes(model_dir: Path) -> int:
    """Bytes of the safetensors files of a complete model folder; CourseError when anything is missing."""
    shards, promised = ["model.safetensors"], 0
    if (index := model_dir / "model.safetensors.index.json").is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        shards, promised = sorted(set(content["weight_map"].values())), content["metadata"]["total_size"]
    wrong = [f"no {name}" for name in ("config.json", *shards) if not (model_dir / name).is_file()]
    if not any((model_dir / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        wrong.append("no tokenizer.json")
    size = sum((model_dir / name).stat().st_size for name in shards) if not wrong else 0
    if not wrong and size < promised:
        wrong.append(f"{size:,} of {promised:,} bytes of weights")
    if wrong:
        what = ", ".join(wrong[:3])
        raise CourseError(f"The model folder {model_dir.name} is incomplete ({what}): run notebook 03 again.")
    return size


def machine() -> tuple[list[int], int, bool]:
    """Free bytes of each GPU, free bytes of RAM, and whether every GPU computes in bf16 (SM 8.0 or newer)."""
    import torch
    from accelerate.utils import get_max_memory

    torch.cuda.empty_cache()  # give back what torch keeps but no longer uses
    memory, gpus = get_max_memory(), range(torch.cuda.device_count())
    ram = memory.get("cpu", memory.get("mps", 0))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # a container may get less than its host has
        with contextlib.suppress(OSError, ValueError):
            ram = min(ram, int(Path("/sys/fs/cgroup", limit).read_text()))
    bf16 = all(torch.cuda.get_device_capability(gpu) >= (8, 0) for gpu in gpus)
    return [memory.get(gpu, 0) for gpu in gpus], ram, bf16


def plan_placement(weights: int, gpu_free: list[int], ram: int, bf16: bool = True) -> tuple[str, str, str]:
    """Return (device_map, dtype, reason) for `weights` bytes of bf16 parameters. All sizes in bytes.

    Like device_map="auto", it spreads layers evenly: no GPU but the last gets more than its share. A tenth of each
    memory stays free. A GPU without bf16 takes float32, twice the size: in float16 the real model writes gibberish.
    """
    need, dtype = (weights, "bfloat16") if bf16 else (2 * weights, "float32")
    room = [max(0, free - max(free / 10, RESERVE)) for free in gpu_free]
    fits = sum(min(size, need / len(room)) for size in room[:-1]) + sum(room[-1:])
    size = f"{weights / GIB:.2f} GiB in bfloat16"
    if room and fits >= need:
        return "auto", dtype, f"{size}, loaded in {dtype} on {len(room)} GPU(s)"
    if bf16 and fits and need - fits <= 0.9 * ram:
        return (
            "auto",
            dtype,
            f"{size}: {fits / GIB:.1f} GiB on the GPUs, the rest in RAM; it works, but slowly",
        )
    if weights <= 0.9 * ram:
        return "cpu", "bfloat16", f"{size}, loaded on the CPU"
    free = ", ".join(f"GPU {i} {size / GIB:.1f} GiB" for i, size in enumerate(gpu_free)) or "no GPU"
    raise CourseError(
        f"The model needs {need / GIB:.1f} GiB for {dtype} weights plus 1 GiB per GPU, but free are {free}, RAM "
        f"{ram / GIB:.1f} GiB: free memory, take a larger machine, or set COURSE_MODEL=embedded."
    )


def gpu_holders() -> str:
    """Say which processes hold GPU memory, as far as nvidia-smi shows them."""
    query = ["nvidia-smi", "--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader"]
    lines: list[str] = []
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.splitlines()
    names = [line.replace(f"{os.getpid()},", f"{os.getpid()} (this one),") for line in lines if line]
    return f"GPU memory is held by process {'; '.join(names) or 'unknown (a container may hide it)'}."


def choose_attention(flash_attn_installed: bool, capabilities: list[tuple[int, int]]) -> tuple[str, str]:
    """Return (implementation, reason) from what is installed and the compute capability (SM) of each GPU."""
    if not capabilities:
        return "sdpa", "PyTorch's own: flash-attn runs on GPUs only"
    if min(capabilities) < (8, 0):
        return "sdpa", "PyTorch's own: flash-attn needs GPUs of compute capability 8.0 or more"
    if not flash_attn_installed:
        return "sdpa", "PyTorch's own, which has a flash kernel too: flash-attn is not installed"
    return "flash_attention_2", "flash-attn is installed and every GPU supports it"


def load(model_dir: Path):
    """Load a model folder, say where it goes, and return (model, tokenizer). CourseError when it cannot."""
    size = weights_bytes(model_dir := Path(model_dir))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    gpu_free, ram, bf16 = machine()
    try:
        device_map, dtype, where = plan_placement(size, gpu_free, ram, bf16)
    except CourseError as error:
        raise CourseError(f"{error} {gpu_holders()}" if gpu_free else str(error)) from None
    try:
        import flash_attn  # a package built for another torch is installed, but fails here
    except Exception:
        flash_attn = None
    gpus = range(len(gpu_free) if device_map == "auto" else 0)
    capabilities = [torch.cuda.get_device_capability(gpu) for gpu in gpus]
    attention, why = choose_attention(bool(flash_attn), capabilities)
    print(f"Weights: {where}.\nAttention: {attention} ({why}).")
    if size < 100 * 2**20:
        logging.disable_progress_bar()
        torch.set_num_threads(1)  # sharing out work this small costs more than the work itself
    options = {"dtype": dtype, "device_map": device_map, "attn_implementation": attention}
    try:
        model = AutoModelForCausalLM.from_pretrained(model_dir, use_safetensors=True, **options)
        return model, AutoTokenizer.from_pretrained(model_dir)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise CourseError(f"transformers cannot load {model_dir.name}: {first_line}") from error


def encode_chat(tokenizer, messages: list[dict[str, str]]):
    """Encode a conversation as `input_ids` and `attention_mask`, (1, tokens), ready for `generate(**inputs)`.

    The same ids as `apply_chat_template(messages, add_generation_prompt=True)`, except that a control token typed
    in a message, such as `<|im_end|>`, stays text: a random mark splits it while the template is rendered, so every
    control token in the rendered text is the template's own.
    """
    from transformers import BatchEncoding

    if not tokenizer.chat_template:
        raise CourseError("This model's tokenizer has no chat template: choose a chat model.")
    control = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    pattern = "|".join(re.escape(token) for token in sorted(control, key=len, reverse=True))
    mark = uuid.uuid4().hex

    def guard(text: str) -> str:
        text = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is not text
        return re.sub(pattern, lambda found: found[0][:1] + mark + found[0][1:], text)

    guarded = [{key: guard(value) for key, value in message.items()} for message in messages]
    rendered = tokenizer.apply_chat_template(guarded, tokenize=False, add_generation_prompt=True)
    ids: list[int] = []
    for part in re.split(f"({pattern})", rendered):
        if part in control:
            ids.append(tokenizer.convert_tokens_to_ids(part))
        else:
            text = part.replace(mark, "")
            ids += tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]}, tensor_type="pt")


class _TokenQueue(queue.SimpleQueue):
    """The streamer for `generate`: hands token ids, with the time, to the thread that reads them."""

    def put(self, tokens) -> None:
        super().put((time.perf_counter(), tokens.flatten().tolist()))

    def end(self, error: BaseException | None = None) -> None:
        super().put(error)


class ChatStream:
    """An answer that is still being written: loop over it, once, to get its pieces of text.

    A background thread generates; leaving the loop early stops it, and what it raises is raised in the loop.
    `new_tokens` counts the end-of-turn token too; `tokens_per_second` is the rate after the first token;
    `finish_reason` is "stop" (the model ended its turn), "length" (max_new_tokens) or "stopped".
    """

    def __init__(self, model, tokenizer, inputs, max_new_tokens: int, stop: threading.Event | None, options):
        self.prompt_tokens, self.new_tokens = inputs["input_ids"].shape[1], 0
        self.first_token_seconds, self.tokens_per_second, self.finish_reason = None, 0.0, None
        self._decode = partial(tokenizer.decode, skip_special_tokens=True)
        self._generate = partial(model.generate, **inputs, max_new_tokens=max_new_tokens, **options)
        self._max_new_tokens, self._stop, self._caller_stop = max_new_tokens, threading.Event(), stop
        end = options.get("eos_token_id", model.generation_config.eos_token_id)
        self._end_of_turn = end if isinstance(end, list) else [end]

    def stop(self) -> None:
        """End the answer after the token that is being computed; any thread may call this."""
        self._stop.set()

    def _stopped(self, *_, **__) -> bool:
        return self._stop.is_set() or (self._caller_stop is not None and self._caller_stop.is_set())

    def _run(self, tokens: _TokenQueue) -> None:
        try:
            self._generate(streamer=tokens, stopping_criteria=[self._stopped])
            tokens.end()
        except BaseException as error:
            tokens.end(error)

    def __iter__(self) -> Iterator[str]:
        """Generate, and yield text once its characters are complete: a character may take several tokens."""
        if self.finish_reason:
            raise RuntimeError("A ChatStream can be read only once.")
        self.finish_reason, tokens, pending, ids = "stopped", _TokenQueue(), [], []
        thread, start = threading.Thread(target=self._run, args=(tokens,), daemon=True), time.perf_counter()
        thread.start()
        try:
            for count, item in enumerate(iter(tokens.get, None)):
                if isinstance(item, BaseException):
                    raise item
                if count == 0:  # generate hands over the prompt first
                    continue
                when, ids = item
                self.new_tokens += len(ids)
                if count == 1:
                    first, self.first_token_seconds = when, when - start
                else:
                    self.tokens_per_second = (self.new_tokens - 1) / (when - first)
                pending += ids
                if not (piece := self._decode(pending)).endswith("\ufffd"):
                    pending.clear()
                    yield piece
            if pending:
                yield self._decode(pending)
            if ids and ids[-1] in self._end_of_turn:
                self.finish_reason = "stop"
            elif self.new_tokens >= self._max_new_tokens:
                self.finish_reason = "length"
        finally:
            self.stop()
            thread.join()


def stream_chat(
    model, tokenizer, messages, *, max_new_tokens=512, stop=None, **generate_options
) -> ChatStream:
    """Answer a conversation piece by piece, see ChatStream; `stop` is a threading.Event that ends it early.

    `generate_options` go to `generate`; what is not given comes from the model's own generation_config.
    CourseError when the conversation leaves no room for an answer.
    """
    inputs = encode_chat(tokenizer, messages).to(model.device)
    room = model.config.max_position_embeddings - inputs["input_ids"].shape[1]
    if min(room, max_new_tokens) < 1:
        raise CourseError(
            f"There is room for {max(0, room):,} new tokens after this conversation and {max_new_tokens:,} are "
            "asked for: shorten the conversation, or ask for at least one."
        )
    return ChatStream(model, tokenizer, inputs, min(room, max_new_tokens), stop, generate_options)


def main(arguments: list[str] | None = None) -> int:
    """Answer one prompt in the terminal: the answer on stdout, the rest on stderr. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m helpers.inference", description="Answer one prompt.")
    parser.add_argument("prompt", help="what to ask, in quotation marks")
    parser.add_argument("--model", help="a model folder, or embedded; without it, choose_model() decides")
    parser.add_argument("--system", default="You are a helpful assistant.", help="the system message")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="the longest answer (default: 512)")

    def refuse(message: str) -> None:
        raise CourseError(f"{message.capitalize()} (--help shows how to call this).")

    parser.error = refuse  # instead of printing the usage and leaving with code 2
    try:
        options = parser.parse_args(arguments)
        if options.model:
            os.environ["COURSE_MODEL"] = options.model
        with contextlib.redirect_stdout(sys.stderr):
            model, tokenizer = load(choose_model())
        messages = [
            {"role": "system", "content": options.system},
            {"role": "user", "content": options.prompt},
        ]
        answer = stream_chat(model, tokenizer, messages, max_new_tokens=options.max_new_tokens)
        for piece in answer:
            print(piece, end="", flush=True)
        print()
        figures = f"{answer.prompt_tokens} prompt tokens, {answer.new_tokens} new tokens"
        speed = f"{answer.tokens_per_second:.1f} tokens/s"
        print(f"[{figures}, {speed}, finish reason: {answer.finish_reason}]", file=sys.stderr)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
