"""The command `python -m helpers.inference`: notebook 04 for a terminal.

    python -m helpers.inference "Give me a short introduction to large language model."

A wrong argument is answered at once: what takes seconds to import is imported when it is needed.
"""

import argparse
import contextlib
import os
import sys

from helpers import CourseError, choose_model
from helpers.inference.loading import load
from helpers.inference.streaming import ChatStream, stream_chat


class Parser(argparse.ArgumentParser):
    """Refuses in one sentence, where argparse would print its usage and leave with code 2."""

    def error(self, message: str) -> None:
        sentence = message[0].upper() + message[1:]
        raise CourseError(f"{sentence} (--help shows how to call this).")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments of the command; CourseError when they make no sense."""
    parser = Parser(prog="python -m helpers.inference", description="Answer one prompt.")
    parser.add_argument("prompt", help="what to ask, in quotation marks")
    parser.add_argument(
        "--model", default="", help="a model folder, or embedded; without it, choose_model() decides"
    )
    parser.add_argument("--system", default="You are a helpful assistant.", help="the system message")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="the longest answer (default: 512)")
    return parser.parse_args(arguments)


def answer(options: argparse.Namespace) -> None:
    """Print the answer on stdout and everything else on stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        model, tokenizer = load(choose_model(options.model))
    messages = [
        {"role": "system", "content": options.system},
        {"role": "user", "content": options.prompt},
    ]
    stream = stream_chat(model, tokenizer, messages, max_new_tokens=options.max_new_tokens)
    for piece in stream:
        print(piece, end="", flush=True)
    print()
    print(f"[{figures(stream)}]", file=sys.stderr)


def figures(stream: ChatStream) -> str:
    """The counts and times of a finished answer."""
    tokens = f"{stream.prompt_tokens} prompt tokens, {stream.new_tokens} new tokens"
    speed = f"{stream.tokens_per_second:.1f} tokens/s, {stream.first_token_seconds:.2f} s to the first"
    return f"{tokens}, {speed}, finish reason: {stream.finish_reason}"


def main(arguments: list[str] | None = None) -> int:
    """Answer one prompt in the terminal; returns the exit code."""
    try:
        answer(parse(arguments))
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `| head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
