"""From a conversation to token ids: whatever somebody types stays text and never becomes a control token.

A chat template is a small program that comes with the model. It takes almost anything without a word: a role
that the model has never seen, a list where it expects text. So a conversation is checked before.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence

from helpers import CourseError

Message = Mapping[str, str]

ROLES = ("system", "user", "assistant")
MESSAGES_ARE = "a list of messages such as {'role': 'user', 'content': 'Hello'}"


def repair_text(text: str) -> str:
    """The text with a question mark for every half of a surrogate pair, which no encoding accepts.

    A browser may send such a half where an emoji was cut in two.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def check_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The conversation as dictionaries of text, each with a role and a content. CourseError if it is none."""
    if not isinstance(messages, (list, tuple)):
        kind = type(messages).__name__
        raise CourseError(f"A conversation is {MESSAGES_ARE}, not a {kind}: put the message into a list.")
    if not messages:
        raise CourseError(f"The conversation is empty: give {MESSAGES_ARE}.")
    return [check_message(number, message) for number, message in enumerate(messages, start=1)]


def check_message(number: int, message: Message) -> dict[str, str]:
    """One message of a conversation as a dictionary of text; `number` counts from 1.

    Keys without a value are left out: other libraries write `"tool_calls": None` into every message.
    """
    if not isinstance(message, Mapping):
        kind = type(message).__name__
        raise CourseError(f"Message {number} is a {kind}: a conversation is {MESSAGES_ARE}.")
    checked = {}
    for key, value in message.items():
        if key not in ("role", "content") and not isinstance(value, str):
            if value:
                raise CourseError(
                    f"Message {number} has {key}, which this chat does not know: leave it out, and send "
                    "role and content only."
                )
            continue
        checked[key] = value
    for key in ("role", "content"):
        check_text(number, key, checked.get(key))
    if checked["role"] not in ROLES:
        raise CourseError(
            f"Message {number} has the role {checked['role'][:50]!r}: "
            "use system, user or assistant, in small letters."
        )
    return {key: repair_text(text) for key, text in checked.items()}


def check_text(number: int, key: str, value: object) -> None:
    """Refuse a role or a content that is no text."""
    if value is None:
        raise CourseError(
            f"Message {number} has no {key}: every message needs a role and a content, as text."
        )
    if isinstance(value, (list, tuple)):
        raise CourseError(
            f"The {key} of message {number} is a list of parts: this chat takes text only, so join the texts "
            "of the parts and leave out the rest."
        )
    if not isinstance(value, str):
        kind = type(value).__name__
        raise CourseError(
            f"The {key} of message {number} is of type {kind}: write it as text, in quotation marks."
        )


def render_chat(tokenizer, messages: list[dict[str, str]]) -> str:
    """The conversation as the text that the chat template makes of it, up to where the assistant speaks.

    CourseError, with the template's own words, when it refuses the conversation, and when it leaves out the
    system message without a word.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise CourseError(
            "This tokenizer has no chat template, so it cannot turn messages into tokens: take the chat "
            "version of the model, whose name often ends in -Chat or -Instruct."
        )
    try:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # the template is a program: anything can go wrong in it
        words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        advice = "send the messages in the order that it wants"
        if messages[0]["role"] == "system" and can_render(tokenizer, messages[1:]):
            advice = "leave out the system message"
        raise CourseError(
            f"The chat template of this model refuses the conversation ({words}): {advice}."
        ) from error
    if leaves_out_system(tokenizer, messages, rendered):
        raise CourseError(
            "The chat template of this model ignores system messages: leave out the system message, and "
            "write what it says into the first question."
        )
    return rendered


def can_render(tokenizer, messages: list[dict[str, str]]) -> bool:
    """Whether the template takes these messages."""
    try:
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception:
        return False
    return True


def leaves_out_system(tokenizer, messages: list[dict[str, str]], rendered: str) -> bool:
    """Whether the rendered text would be the same with another system message at the start."""
    system = messages[0]["content"].strip()
    if messages[0]["role"] != "system" or not system:
        return False
    other = [{"role": "system", "content": f"{system} {uuid.uuid4().hex}"}, *messages[1:]]
    return rendered == tokenizer.apply_chat_template(other, tokenize=False, add_generation_prompt=True)


def takes_system_message(tokenizer) -> bool:
    """Whether the chat template of this tokenizer takes a system message; False if it has no template."""
    try:
        render_chat(tokenizer, [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    except CourseError:
        return False
    return True


def control_tokens(tokenizer) -> list[str]:
    """The tokenizer's control tokens such as `<|im_end|>`, the longest first."""
    texts = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted(texts, key=len, reverse=True)


def any_of(texts: Iterable[str]) -> re.Pattern:
    """A pattern that finds each of these texts, and keeps them when it splits; of no texts, nothing."""
    alternatives = "|".join(re.escape(text) for text in texts)
    if not alternatives:
        return re.compile("((?!))")
    return re.compile(f"({alternatives})")


def encode_chat(tokenizer, messages: Sequence[Message]):
    """Encode a conversation as `input_ids` and `attention_mask`, (1, tokens), ready for `generate(**inputs)`.

    The ids of `apply_chat_template(messages, add_generation_prompt=True)`, except that a control token typed
    in a message, such as `<|im_end|>`, stays text: a random mark splits it while the template is rendered, so
    every control token in the rendered text is the template's own. CourseError for what is no conversation,
    and for one that the template refuses.
    """
    from transformers import BatchEncoding  # imported late: transformers takes seconds

    checked = check_messages(messages)
    control = control_tokens(tokenizer)
    control_pattern = any_of(control)
    mark = uuid.uuid4().hex

    # 1. Split the control tokens that were typed: "<|im_end|>" becomes "<", the mark, "|im_end|>".
    def split_control_token(found: re.Match) -> str:
        token = found.group()
        return token[0] + mark + token[1:]

    guarded = []
    for message in checked:
        guarded.append({key: control_pattern.sub(split_control_token, text) for key, text in message.items()})

    # 2. Let the template add its own.
    rendered = render_chat(tokenizer, guarded)

    # 3. Encode the template's control tokens as such and everything between them, without marks, as text.
    ids: list[int] = []
    for part in control_pattern.split(rendered):
        ids += tokenizer.encode(
            part.replace(mark, ""),
            add_special_tokens=False,
            split_special_tokens=part not in control,
            verbose=False,  # it would warn of a long text; how long is too long, the caller knows
        )
    return BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]}, tensor_type="pt")
