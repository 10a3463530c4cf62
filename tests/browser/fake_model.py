"""A stand-in for the model, for the kernel of the browser tests: its answer is what the question asks for.

`echo TEXT` answers TEXT, piece by piece; `slow N` answers N numbers at 20 a second; `fail` runs out of
memory. Everything else in these tests is real: the box, its thread, its widgets, the page.
"""

import time
from types import SimpleNamespace

from helpers.prompt_box import box as prompt_box


class Model:
    config = SimpleNamespace(max_position_embeddings=4000)
    generation_config = SimpleNamespace(do_sample=True, temperature=0.7, top_p=0.8)


class Stream:
    def __init__(self, question, stop):
        self.command, _, self.rest = question.partition(" ")
        self.stop, self.prompt_tokens, self.new_tokens = stop, len(question), 0
        self.tokens_per_second, self.first_token_seconds, self.finish_reason = 20.0, 0.1, None

    def pieces(self):
        if self.command == "fail":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if self.command == "slow":
            for number in range(int(self.rest)):
                time.sleep(0.05)
                yield f"{number} "
        else:
            yield from (self.rest[i : i + 9] for i in range(0, len(self.rest), 9))

    def __iter__(self):
        self.finish_reason = "stopped"
        for piece in self.pieces():
            if self.stop.is_set():
                return
            self.new_tokens += 1
            yield piece
        self.finish_reason = "stop"


def encode_chat(tokenizer, messages):
    return {"input_ids": SimpleNamespace(shape=(1, sum(len(m["content"]) for m in messages)))}


def stream_chat(model, tokenizer, messages, *, stop, **options):
    return Stream(messages[-1]["content"], stop)


def make_box(**options):
    """A PromptBox on the stand-in."""
    prompt_box.encode_chat, prompt_box.stream_chat = encode_chat, stream_chat
    return prompt_box.PromptBox(Model(), None, **options)
