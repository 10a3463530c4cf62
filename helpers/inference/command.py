"""The command `python -m helpers.inference`: notebook 04 for a terminal.

    python -m helpers.inference "Give me a short introduction to large language model."

A wrong argument is answered at once: what takes seconds to import is imported when it is needed.
"""

import argparse
import contextlib
import os
import sys

from helpers import CourseError, choose_model
from helpers.arguments import ArgumentParser, in_words
from helpers.inference.chat import takes_system_message
from helpers.inference.errors import is_out_of_memory
from helpers.inference.loading import load
from helpers.inference.streaming import ChatStream, stream_chat
from helpers.language import say, to_say
from helpers.settings import wanted_model

SYSTEM = "You are a helpful assistant."
OUT_OF_MEMORY = to_say(
    "The memory ran out: shorten the prompt, lower --max-new-tokens, or end what else uses the memory."
)


class Parser(ArgumentParser):
    """Refuses in one sentence, where argparse would print its usage and leave with code 2."""

    def error(self, message: str) -> None:
        words = in_words(message)
        sentence = words[0].upper() + words[1:]
        raise CourseError(say("{sentence} (--help shows how to call this).", sentence=sentence))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The arguments of the command; CourseError when they make no sense."""
    parser = Parser(prog="python -m helpers.inference", description=say("Answer one prompt."))
    parser.add_argument("prompt", help=say("what to ask, in quotation marks"))
    model = say(
        "a model folder, embedded, real, or the name of a downloaded model; without it, choose_model() "
        "decides"
    )
    parser.add_argument("--model", help=model)
    system = say('the system message (default: "{system}"); "" leaves it out', system=SYSTEM)
    parser.add_argument("--system", help=system)
    longest = say("the longest answer (default: 512)")
    parser.add_argument("--max-new-tokens", type=int, default=512, help=longest)
    offload = say("where weights may go that fit neither on the GPUs nor in RAM; very slow")
    parser.add_argument("--offload-folder", help=offload)
    options = parser.parse_args(arguments)
    if options.offload_folder and not options.model and not wanted_model():
        options.model = "real"  # choose_model would take the embedded one, because the real one does not fit
    return options


def answer(options: argparse.Namespace) -> None:
    """Print the answer on stdout and everything else on stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        model, tokenizer = load(choose_model(options.model), options.offload_folder)
    messages = make_messages(tokenizer, options.system, options.prompt)
    stream = stream_chat(model, tokenizer, messages, max_new_tokens=options.max_new_tokens)
    for piece in stream:
        print(piece, end="", flush=True)
    print()
    print(f"[{figures(stream)}]", file=sys.stderr)


def make_messages(tokenizer, system: str | None, prompt: str) -> list[dict[str, str]]:
    """The conversation: the system message, unless it is empty, and the prompt.

    `system`: None for the course's own, which is left out for a model whose template takes none. CourseError
    for such a model and a system message that was asked for.
    """
    question = {"role": "user", "content": prompt}
    if system == "":
        return [question]
    if takes_system_message(tokenizer):
        return [{"role": "system", "content": system or SYSTEM}, question]
    if system and tokenizer.chat_template:
        raise CourseError(say("The chat template of this model takes no system message: leave out --system."))
    return [question]


def figures(stream: ChatStream) -> str:
    """The counts and times of a finished answer."""
    return say(
        "{prompt} prompt tokens, {new} new tokens, {speed:.1f} tokens/s, {first:.2f} s to the first, finish "
        "reason: {reason}",
        prompt=stream.prompt_tokens,
        new=stream.new_tokens,
        speed=stream.tokens_per_second,
        first=stream.first_token_seconds,
        reason=stream.finish_reason,
    )


def main(arguments: list[str] | None = None) -> int:
    """Answer one prompt in the terminal; returns the exit code."""
    try:
        answer(parse(arguments))
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(say(OUT_OF_MEMORY), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `| head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
