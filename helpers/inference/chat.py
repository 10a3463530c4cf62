"""From a conversation to token ids: whatever somebody types stays text and never becomes a control token."""

import re
import uuid
from collections.abc import Iterable, Sequence

from helpers import CourseError
from helpers.inference.errors import first_line
from helpers.inference.messages import Message, check_messages
from helpers.language import say


def render_chat(tokenizer, messages: list[dict[str, str]]) -> str:
    """The conversation as the text that the chat template makes of it, up to where the assistant speaks.

    CourseError, with the template's own words, when it refuses the conversation, and when it leaves out the
    system message without a word.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise CourseError(
            say(
                "This tokenizer has no chat template, so it cannot turn messages into tokens: take the chat "
                "version of the model, whose name often ends in -Chat or -Instruct."
            )
        )
    try:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # the template is a program: anything can go wrong in it
        raise template_refuses(tokenizer, messages, error) from error
    if leaves_out(tokenizer, messages, rendered, "user"):
        raise CourseError(
            say(
                "The chat template of this model leaves the questions out, perhaps because it wants lists of "
                "parts where this chat has text: take another version of the model or of its template."
            )
        )
    if leaves_out(tokenizer, messages, rendered, "system"):
        raise CourseError(
            say(
                "The chat template of this model ignores system messages: leave out the system message, and "
                "write what it says into the first question."
            )
        )
    return rendered


def template_refuses(tokenizer, messages: list[dict[str, str]], error: Exception) -> CourseError:
    """The sentence for a conversation that the template refuses: its own words, and what helps."""
    words = first_line(error)
    if messages[0]["role"] == "system" and can_render(tokenizer, messages[1:]):
        return CourseError(
            say(
                "The chat template of this model refuses the conversation ({words}): leave out the system "
                "message.",
                words=words,
            )
        )
    if not can_render(tokenizer, [{"role": "user", "content": "u"}]):
        return CourseError(
            say(
                "The chat template of this model refuses the conversation ({words}): it refuses any "
                "question, so take another version of the model or of its template.",
                words=words,
            )
        )
    return CourseError(
        say(
            "The chat template of this model refuses the conversation ({words}): send the messages in the "
            "order that it wants.",
            words=words,
        )
    )


def can_render(tokenizer, messages: list[dict[str, str]]) -> bool:
    """Whether the template takes these messages."""
    try:
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception:
        return False
    return True


def leaves_out(tokenizer, messages: list[dict[str, str]], rendered: str, role: str) -> bool:
    """Whether the rendered text would be the same with other texts of this role."""
    other = []
    for message in messages:
        if message["role"] == role and message["content"].strip():
            message = message | {"content": uuid.uuid4().hex}
        other.append(message)
    if other == messages:
        return False
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
    if guarded != checked and rendered.replace(mark, "") != render_chat(tokenizer, checked):
        raise CourseError(
            say(
                "The chat template of this model changes the texts of messages, and a control token such as "
                "{token} is typed in one, which then cannot be told from the template's own: leave it out.",
                token=control[0],
            )
        )

    # 3. Encode the template's control tokens as such and everything between them, without marks, as text.
    ids: list[int] = []
    for part in control_pattern.split(rendered):
        ids += encode_text(tokenizer, part.replace(mark, ""), is_control=part in control)
    return BatchEncoding({"input_ids": [ids], "attention_mask": [[1] * len(ids)]}, tensor_type="pt")


def encode_text(tokenizer, text: str, is_control: bool) -> list[int]:
    """The ids of a control token of the template, or of a text between them, which stays text.

    CourseError for a text that the tokenizer has no tokens for.
    """
    try:
        return tokenizer.encode(
            text,
            add_special_tokens=False,
            split_special_tokens=not is_control,
            verbose=False,  # it would warn of a long text; how long is too long, the caller knows
        )
    except Exception as error:  # what the tokenizers library raises has no class of its own
        raise CourseError(
            say(
                "The tokenizer has no tokens for this text ({words}): take the tokenizer that belongs to the "
                "model.",
                words=first_line(error),
            )
        ) from error
