"""What was said in a chat, and how much of it the model can still read."""

import itertools
import json
from pathlib import Path

from helpers import CourseError
from helpers.inference import KeptPrefix, encode_chat
from helpers.language import say

Message = dict[str, str]  # {"role": "system", "user" or "assistant", "content": the text}


class Conversation:
    """What was said: a system prompt, answered questions, and the last question with or without an answer."""

    def __init__(self, system: str):
        #: The system prompt that the newest answer was written under.
        self.system = system
        #: The last question; "" before the first one.
        self.question = ""
        #: The answer to it; "" while there is none.
        self.answer = ""
        #: The KV cache of the newest answer, so that the next turn need not compute again what was said.
        self.prefix = KeptPrefix()
        self._earlier: list[Message] = []  # questions and answers before the last question, in pairs

    def _turns(self) -> list[Message]:
        """Every question that has an answer, and the answer; a question without one is left out."""
        if not self.answer:
            return list(self._earlier)
        return [
            *self._earlier,
            {"role": "user", "content": self.question},
            {"role": "assistant", "content": self.answer},
        ]

    @property
    def messages(self) -> list[Message]:
        """What was said, as the model reads it: the system prompt, then question and answer in turns."""
        return [{"role": "system", "content": self.system}, *self._turns()]

    def prompt(self, system: str, question: str, again: bool = False) -> list[Message]:
        """The messages to send for `question`; `again` sends the last question without its old answer."""
        turns = self._earlier if again else self._turns()
        return [{"role": "system", "content": system}, *turns, {"role": "user", "content": question}]

    def ask(self, question: str) -> None:
        """Make this the last question. A question before it that got no answer is forgotten."""
        self._earlier = self._turns()
        self.question = question
        self.answer = ""

    def set_answer(self, system: str, answer: str) -> None:
        """Keep the answer to the last question, and the system prompt that it was written under."""
        self.system = system
        self.answer = answer

    def save(self, folder: Path) -> Path:
        """Write the messages into a new JSON file in `folder`; returns the file. OSError if that fails."""
        paths = (folder / f"conversation-{number:03d}.json" for number in itertools.count(1))
        path = next(path for path in paths if not path.exists())
        with path.open("x", encoding="utf-8") as file:  # "x" never overwrites
            json.dump(self.messages, file, ensure_ascii=False, indent=2)
        return path

    def clear(self) -> None:
        """Forget everything except the system prompt."""
        self.prefix.forget()
        self._earlier = []
        self.question = ""
        self.answer = ""


def save(conversation: Conversation, folder: Path) -> str:
    """Save a conversation in `folder`; returns the sentence about it, also if that fails."""
    try:
        path = conversation.save(folder)
    except OSError as error:
        return say("Not saved ({reason}): free some space, or choose another folder.", reason=error.strerror)
    return say("Saved as {name}.", name=path.name)


def fit(messages: list[Message], tokenizer, limit: int) -> tuple[list[Message], int]:
    """Leave out the oldest turns until at most `limit` tokens are left; also returns how many turns went.

    `messages`: system prompt, pairs of question and answer, a question. CourseError if the system prompt and
    the last question alone are longer than `limit` tokens.
    """
    pairs = (len(messages) - 2) // 2
    for dropped in range(pairs + 1):
        kept = messages[:1] + messages[1 + 2 * dropped :]
        tokens = encode_chat(tokenizer, kept)["input_ids"].shape[1]
        if tokens <= limit:
            return kept, dropped
    raise CourseError(
        say(
            "Your message makes a prompt of {tokens:,} tokens, but only {limit:,} fit beside the answer: "
            "shorten it by {surplus:,} tokens, or lower the number of new tokens.",
            tokens=tokens,
            limit=limit,
            surplus=tokens - limit,
        )
    )
