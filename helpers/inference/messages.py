"""What a conversation is: a list of messages, each with a role and a text.

A chat template takes almost anything without a word: a role that the model has never seen, a list where it
expects text. So a conversation is checked before it meets the template.
"""

from collections.abc import Mapping, Sequence, Sized

from helpers import CourseError
from helpers.language import say

Message = Mapping[str, str]

ROLES = ("system", "user", "assistant")
EXAMPLE = {"role": "user", "content": "Hello"}


def repair_text(text: str) -> str:
    """The text with a question mark for every half of a surrogate pair, which no encoding accepts.

    A browser may send such a half where an emoji was cut in two.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def check_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The conversation as dictionaries of text, each with a role and a content. CourseError if it is none."""
    if not isinstance(messages, (list, tuple)):
        raise CourseError(
            say(
                "A conversation is a list of messages such as {example}, not a {kind}: put the message into "
                "a list.",
                example=EXAMPLE,
                kind=type(messages).__name__,
            )
        )
    if not messages:
        raise CourseError(
            say("The conversation is empty: give a list of messages such as {example}.", example=EXAMPLE)
        )
    return [check_message(number, message) for number, message in enumerate(messages, start=1)]


def check_message(number: int, message: Message) -> dict[str, str]:
    """One message of a conversation as a dictionary of text; `number` counts from 1.

    Keys without a value are left out: other libraries write `"tool_calls": None` into every message.
    """
    if not isinstance(message, Mapping):
        raise CourseError(
            say(
                "Message {number} is a {kind}: a conversation is a list of messages such as {example}.",
                number=number,
                kind=type(message).__name__,
                example=EXAMPLE,
            )
        )
    checked = {}
    for key, value in message.items():
        if key not in ("role", "content") and not isinstance(value, str):
            if has_value(value):
                raise CourseError(
                    say(
                        "Message {number} has {key}, which this chat does not know: leave it out, and send "
                        "role and content only.",
                        number=number,
                        key=key,
                    )
                )
            continue
        checked[key] = value
    for key in ("role", "content"):
        check_text(number, key, checked.get(key))
    if checked["role"] not in ROLES:
        raise CourseError(
            say(
                "Message {number} has the role {role!r}: use system, user or assistant, in small letters.",
                number=number,
                role=checked["role"][:50],
            )
        )
    return {key: repair_text(text) for key, text in checked.items()}


def has_value(value: object) -> bool:
    """Whether a key that this chat does not know says anything: not None, False, 0 or empty."""
    if value is None:
        return False
    if isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, Sized):
        return len(value) > 0
    return True


def check_text(number: int, key: str, value: object) -> None:
    """Refuse a role or a content that is no text."""
    if value is None:
        raise CourseError(
            say(
                "Message {number} has no {key}: every message needs a role and a content, as text.",
                number=number,
                key=key,
            )
        )
    if isinstance(value, (list, tuple)):
        raise CourseError(
            say(
                "The {key} of message {number} is a list of parts: this chat takes text only, so join the "
                "texts of the parts and leave out the rest.",
                key=key,
                number=number,
            )
        )
    if not isinstance(value, str):
        raise CourseError(
            say(
                "The {key} of message {number} is of type {kind}: write it as text, in quotation marks.",
                key=key,
                number=number,
                kind=type(value).__name__,
            )
        )
