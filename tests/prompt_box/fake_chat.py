"""A model that answers by script, and hands for a box: no browser, no kernel, no weights."""

import threading
import time
from types import SimpleNamespace

CONTEXT = 400  # tokens; the fake tokenizer counts one a character
PATIENCE = 60  # seconds; far more than anything here takes: only a test that fails waits so long


class Prefill(threading.Event):
    """In a script: the model computes until this is set, and does not look at Stop meanwhile."""


class FakeStream:
    """What `stream_chat` returns. `script` gives the pieces; errors are raised, Events are waited for."""

    def __init__(self, script, stop, finish_reason):
        self.script = script
        self.stop = stop
        self.last_reason = finish_reason
        self.prompt_tokens = 7
        self.new_tokens = 0
        self.token_ids = []
        self.tokens_per_second = 123.4
        self.first_token_seconds = 0.05
        self.finish_reason = None

    def wait_for(self, event) -> bool:
        """Whether the event came, and not Stop."""
        if isinstance(event, Prefill):
            return event.wait(PATIENCE)
        while not event.wait(0.01):
            if self.stop.is_set():
                return False
        return True

    def __iter__(self):
        self.finish_reason = "stopped"
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                if not self.wait_for(step):
                    return
                continue
            if self.stop.is_set():
                return
            self.new_tokens += 1
            self.token_ids.append(self.new_tokens)
            yield step
        self.finish_reason = self.last_reason


class FakeModel:
    """A model whose answers are scripts, taken in order; it records the messages that it was given."""

    def __init__(self, *scripts, finish_reason="stop", **generation):
        self.scripts = list(scripts)
        self.finish_reason = finish_reason
        self.prompts = []
        self.options = []
        self.config = SimpleNamespace(max_position_embeddings=CONTEXT)
        defaults = {"do_sample": True, "temperature": 0.7, "top_p": 0.8}
        self.generation_config = SimpleNamespace(**{**defaults, **generation})

    def stream_chat(self, model, tokenizer, messages, *, stop, prefix, **options):
        self.prompts.append(messages)
        self.options.append(options)
        script = ["ok"]
        if self.scripts:
            script = self.scripts.pop(0)
        return FakeStream(script, stop, self.finish_reason)

    def prompt_texts(self, number):
        """The texts of one prompt, without the roles."""
        return [message["content"] for message in self.prompts[number]]


def send(box, text):
    """Type and press Send."""
    box.entry.value = text
    box.send_button.click()


def ask(box, text):
    """Type, press Send, and wait for the whole answer."""
    send(box, text)
    finish(box)


def finish(box):
    assert box.wait(PATIENCE), "the answer did not end"


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def bubbles(box):
    """(question, answer) of every turn, as HTML."""
    values = [bubble.value for bubble in box.view.log.children]
    return list(zip(values[::2], values[1::2], strict=True))


def notice(box):
    return box.view.notice.value


def status(box):
    return box.view.status.value
