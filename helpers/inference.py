"""Choose a model, load it, and chat with it: notebook 04 as functions, and as a command for a terminal.

    python -m helpers.inference "Give me a short introduction to large language model."

The functions import torch and transformers, which takes seconds: a wrong argument is answered at once.
"""

import argparse
import contextlib
import json
import os
import queue
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from helpers import EMBEDDED_MODEL, CourseError, record_file
from helpers.placement import choose_attention, gpu_holders, machine, plan_placement, weights_bytes


def choose_model(wanted: str | None = None) -> Path:
    """Return the model folder for this machine and print which, why, and how to switch. Never downloads.

    First `wanted`, or `COURSE_MODEL`: a folder, or `embedded`; a wrong folder is a CourseError. Then the one
    that notebook 03 recorded, if it is complete and this machine can hold it; else the embedded model.
    """
    folder, name = EMBEDDED_MODEL, "the embedded toy model"
    why = "--model asks for it" if wanted else "COURSE_MODEL asks for it"
    wanted = (wanted or os.environ.get("COURSE_MODEL", "")).strip()
    if wanted and wanted != "embedded":
        folder, name = Path(wanted).expanduser(), Path(wanted).name
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
    attention, why = choose_attention(bool(flash_attn), [torch.cuda.get_device_capability(g) for g in gpus])
    print(f"Weights: {where}.\nAttention: {attention} ({why}).")
    if size < 100 * 2**20:
        logging.disable_progress_bar()
        torch.set_num_threads(1)  # sharing out work this small costs more than the work itself
    options = {"dtype": dtype, "device_map": device_map, "attn_implementation": attention}
    try:
        model = AutoModelForCausalLM.from_pretrained(model_dir, use_safetensors=True, **options)
        return model, AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # whatever a broken file causes somewhere inside
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CourseError(f"transformers cannot load {model_dir.name}: {what}") from error


def encode_chat(tokenizer, messages: list[dict[str, str]]):
    """Encode a conversation as `input_ids` and `attention_mask`, (1, tokens), ready for `generate(**inputs)`.

    The ids of `apply_chat_template(messages, add_generation_prompt=True)`, except that a control token typed
    in a message, such as `<|im_end|>`, stays text: a random mark splits it while the template is rendered, so
    every control token in the rendered text is the template's own.
    """
    from transformers import BatchEncoding

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
        text = part.replace(mark, "")
        ids += tokenizer.encode(text, add_special_tokens=False, split_special_tokens=part not in control)
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

    def __init__(self, model, tokenizer, options: dict, stop: threading.Event | None):
        self._model, self._tokenizer, self._options = model, tokenizer, options
        self._stops = [threading.Event(), *([stop] if stop else [])]
        self.prompt_tokens, self.new_tokens = options["input_ids"].shape[1], 0
        self.first_token_seconds, self.tokens_per_second, self.finish_reason = None, 0.0, None

    def stop(self) -> None:
        """End the answer after the token that is being computed; any thread may call this."""
        self._stops[0].set()

    def _stopped(self, *_, **__) -> bool:
        return any(event.is_set() for event in self._stops)

    def _generate(self, tokens: _TokenQueue) -> None:
        try:
            self._model.generate(**self._options, streamer=tokens, stopping_criteria=[self._stopped])
            tokens.end()
        except BaseException as error:
            tokens.end(error)

    def __iter__(self) -> Iterator[str]:
        """Generate, and yield text once its characters are complete: a character may take several tokens."""
        if self.finish_reason:
            raise RuntimeError("A ChatStream can be read only once.")
        self.finish_reason, tokens, pending, start = "stopped", _TokenQueue(), [], time.perf_counter()
        if self._stopped():
            return
        thread = threading.Thread(target=self._generate, args=(tokens,), daemon=True)
        thread.start()
        try:
            for step, item in enumerate(iter(tokens.get, None)):
                if isinstance(item, BaseException):
                    raise item
                when, ids = item
                if step == 0:  # generate hands over the prompt first
                    continue
                if step == 1:
                    first, self.first_token_seconds = when, when - start
                self.new_tokens += len(ids)
                self.tokens_per_second = (self.new_tokens - 1) / max(when - first, 1e-9)
                pending += ids
                piece = self._tokenizer.decode(pending, skip_special_tokens=True)
                if piece and not piece.endswith("\ufffd"):
                    pending.clear()
                    yield piece
            ends = self._options.get("eos_token_id", self._model.generation_config.eos_token_id)
            if ids[-1] in (ends if isinstance(ends, list) else [ends]):
                self.finish_reason = "stop"
            elif self.new_tokens >= self._options["max_new_tokens"]:
                self.finish_reason = "length"
            if rest := self._tokenizer.decode(pending, skip_special_tokens=True):
                yield rest  # half a character, where max_new_tokens cut it
        finally:
            self.stop()
            thread.join()


def stream_chat(
    model, tokenizer, messages, *, max_new_tokens=512, stop=None, **generate_options
) -> ChatStream:
    """Answer a conversation piece by piece, see ChatStream; `stop` is a threading.Event that ends it.

    `generate_options` go to `generate`; what is not given comes from the model's own generation_config.
    CourseError when the conversation leaves no room for an answer.
    """
    inputs = encode_chat(tokenizer, messages).to(model.device)
    length, context = inputs["input_ids"].shape[1], model.config.max_position_embeddings
    if length >= context or max_new_tokens < 1:
        raise CourseError(
            f"The chat fills {length:,} of {context:,} tokens and {max_new_tokens:,} new ones are wanted: "
            "shorten it, or ask for at least one new token."
        )
    options = {**inputs, **generate_options, "max_new_tokens": min(max_new_tokens, context - length)}
    return ChatStream(model, tokenizer, options, stop)


def main(arguments: list[str] | None = None) -> int:
    """Answer one prompt in the terminal: the answer on stdout, the rest on stderr. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m helpers.inference", description="Answer one prompt.")
    parser.add_argument("prompt", help="what to ask, in quotation marks")
    parser.add_argument("--model", help="a model folder, or embedded; without it, choose_model() decides")
    parser.add_argument("--system", default="You are a helpful assistant.", help="the system message")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="the longest answer (default: 512)")

    def refuse(message: str) -> None:  # argparse would print its usage and leave with code 2
        raise CourseError(f"{message[0].upper()}{message[1:]} (--help shows how to call this).")

    parser.error = refuse
    try:
        options = parser.parse_args(arguments)
        with contextlib.redirect_stdout(sys.stderr):
            model, tokenizer = load(choose_model(options.model))
        messages = [
            {"role": "system", "content": options.system},
            {"role": "user", "content": options.prompt},
        ]
        answer = stream_chat(model, tokenizer, messages, max_new_tokens=options.max_new_tokens)
        for piece in answer:
            print(piece, end="", flush=True)
        print()
        speed = f"{answer.tokens_per_second:.1f} tokens/s, {answer.first_token_seconds:.2f} s to the first"
        tokens = f"{answer.prompt_tokens} prompt tokens, {answer.new_tokens} new tokens"
        print(f"[{tokens}, {speed}, finish reason: {answer.finish_reason}]", file=sys.stderr)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `| head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
