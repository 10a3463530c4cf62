"""From a conversation to token ids: whatever somebody types stays text and never becomes a control token."""

import re
import uuid
from collections.abc import Iterable

Message = dict[str, str]


def repair_text(text: str) -> str:
    """The text with a question mark for every half of a surrogate pair, which no encoding accepts.

    A browser may send such a half where an emoji was cut in two.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def control_tokens(tokenizer) -> list[str]:
    """The tokenizer's control tokens such as `<|im_end|>`, the longest first."""
    texts = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted(texts, key=len, reverse=True)


def any_of(texts: Iterable[str]) -> re.Pattern:
    """A pattern that finds each of these texts, and keeps them when it splits."""
    alternatives = "|".join(re.escape(text) for text in texts)
    return re.compile(f"({alternatives})")


def encode_chat(tokenizer, messages: list[Message]):
    """Encode a conversation as `input_ids` and `attention_mask`, (1, tokens), ready for `generate(**inputs)`.

    The ids of `apply_chat_template(messages, add_generation_prompt=True)`, except that a control token typed
    in a message, such as `<|im_end|>`, stays text: a random mark splits it while the template is rendered, so
    every control token in the rendered text is the template's own.
    """
    from transformers import BatchEncoding  # imported late: transformers takes seconds

    control = control_tokens(tokenizer)
    control_pattern = any_of(control)
    mark = uuid.uuid4().hex

    # 1. Split the control tokens that were typed: "<|im_end|>" becomes "<", the mark, "|im_end|>".
    def split_control_token(found: re.Match) -> str:
        token = found.group()
        return token[0] + mark + token[1:]

    guarded = []
    for message in messages:
        texts = {key: repair_text(text) for key, text in message.items()}
        guarded.append({key: control_pattern.sub(split_control_token, text) for key, text in texts.items()})

    # 2. Let the template add its own.
    rendered = tokenizer.apply_chat_template(guarded, tokenize=False, add_generation_prompt=True)

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
