"""Choose a model, load it, and ask it: notebook 04 as functions, and as a command for a terminal.

    python -m helpers.inference "Give me a short introduction to large language model."

The functions import torch and transformers, which takes seconds: a wrong argument is answered at once.
"""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from helpers import EMBEDDED_MODEL, CourseError
from helpers.inference.chat import stream_chat
from helpers.inference.placement import choose_attention, gpu_holders, machine, plan_placement, weights_bytes
from helpers.settings import record_file


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
