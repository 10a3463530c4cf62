"""A stand-in for the model, for the kernel of the browser tests: its answer is what the question asks for.

`echo TEXT` answers TEXT, piece by piece; `slow N` answers N numbers at 20 a second; `forever` answers numbers
until it is stopped; `fail` runs out of memory. Everything else in these tests is real: the box, its thread,
its widgets, the page.
"""

import itertools
import time
from types import SimpleNamespace

from helpers.prompt_box import PromptBox, answer, conversation


class Model:
    config = SimpleNamespace(max_position_embeddings=4000)
    generation_config = SimpleNamespace(do_sample=True, temperature=0.7, top_p=0.8)


class Stream:
    """What `stream_chat` returns."""

    def __init__(self, question, stop):
        self.command, _, self.rest = question.partition(" ")
        self.stop = stop
        self.prompt_tokens = len(question)
        self.new_tokens = 0
        self.tokens_per_second = 20.0
        self.first_token_seconds = 0.1
        self.finish_reason = None

    def pieces(self):
        if self.command == "fail":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if self.command == "forever":
            return self.count(itertools.count())
        if self.command == "slow":
            return self.count(range(int(self.rest)))
        return (self.rest[start : start + 9] for start in range(0, len(self.rest), 9))

    def count(self, numbers):
        for number in numbers:
            time.sleep(0.05)
            yield f"{number} "

    def __iter__(self):
        self.finish_reason = "stopped"
        for piece in self.pieces():
            if self.stop.is_set():
                return
            self.new_tokens += 1
            yield piece
        self.finish_reason = "stop"


def encode_chat(tokenizer, messages):
    """One token a character."""
    characters = sum(len(message["content"]) for message in messages)
    return {"input_ids": SimpleNamespace(shape=(1, characters))}


def stream_chat(model, tokenizer, messages, *, stop, prefix, **options):
    return Stream(messages[-1]["content"], stop)


def make_box(**options):
    """A PromptBox on the stand-in."""
    conversation.encode_chat = encode_chat
    answer.stream_chat = stream_chat
    return PromptBox(Model(), None, **options)
