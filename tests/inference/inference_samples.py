"""What several tests of helpers.inference need: texts, a chat template, conversations, a scripted model."""

import json
from itertools import count
from pathlib import Path

from helpers.settings import record_file

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = [
    "model", "Give me", " a short", "introduction", "def add(a, b):\n    return a + b", "\n", "\n\n\n", "  ",
    "\t", " \n ", "简单介绍一下大语言模型", "你好，世界。", "é", "e\u0301", "🙂", "👩‍👩‍👧", "4.5",
    "'s", "123", "<", "|", "im_end", "|>", "<|", "<im_end>", "{{ x }}", "{% raw %}", "http://a.b/c?d=e",
    "\r\n", "\u3000", "ﬁ", "한국어", "العربية", "\x00", "user\n", "assistant\n",
]  # fmt: skip

#: Seconds after which a test gives up on a child process or a thread: a safety net far from the usual time.
PATIENCE = 300


def record(text: str) -> None:
    """Write the record of a download, as notebook 03 does."""
    record_file().parent.mkdir(parents=True, exist_ok=True)
    record_file().write_bytes(text.encode("utf-8", "surrogateescape"))


def record_folder(folder: str | Path, model_id: str = "a/b") -> None:
    """Record this folder as a finished download."""
    record(json.dumps({"model_id": model_id, "revision": "master", "folder": str(folder)}))


def user(text: str) -> list[dict[str, str]]:
    """A conversation of a system message and this question."""
    return [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]


def reference(tokenizer, messages) -> list[int]:
    """The ids that transformers makes of a conversation."""
    return tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)["input_ids"]


def says(model, monkeypatch, tokens: list[int], before=None) -> None:
    """Let the model say exactly these tokens: replace its logits, and leave all of `generate` at work.

    `before` is called with the number of each token, from 0, while `generate` waits for that token.
    """
    numbers = count()
    forward = model.forward

    def forced(*args, **kwargs):
        number = next(numbers)
        if before:
            before(number)
        output = forward(*args, **kwargs)
        output.logits.fill_(-100.0)
        output.logits[..., tokens[number]] = 100.0
        return output

    monkeypatch.setattr(model, "forward", forced)
