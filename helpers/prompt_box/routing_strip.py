"""The tokens of an answer in a row, each in the colour of the expert that its router likes best."""

import html

from helpers.language import listed, say
from helpers.routing import Routing


def routing_strip(routing: Routing, tokenizer, last_token: int | None = None) -> str:
    """HTML: the tokens of an answer, coloured by their first expert in the last layer of `routing`.

    `last_token`: id of the last token of the answer. It is not in the recording: a token goes through the
    experts when the model reads it, to write the next one, and no token comes after the last. Tokens that are
    parts of one character are shown together, as this character.
    """
    tokens = routing.token_id[routing.decode].tolist()
    experts = routing.experts[routing.decode, -1, 0].tolist()
    if last_token is not None:
        tokens.append(last_token)
        experts.append(None)
    spans = []
    for text, start, end in whole_characters(tokens, tokenizer):
        spans.append(token_span(text, experts[start:end]))
    line = say(
        "First expert of each token in layer {layer}: {tokens}",
        layer=routing.layers[-1],
        tokens="".join(spans),
    )
    return f"<hr>{line}"


def whole_characters(tokens: list[int], tokenizer) -> list[tuple[str, int, int]]:
    """(text, start, end): the shortest runs of tokens, `tokens[start:end]`, that are a text each.

    A Chinese character or an emoji can take several tokens; alone, each of them decodes to the sign U+FFFD.
    """
    runs = []
    start = 0
    for end in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[start:end])
        is_last = end == len(tokens)
        if is_last or not text.endswith("\ufffd"):
            runs.append((text, start, end))
            start = end
    return runs


def token_span(text: str, experts: list[int | None]) -> str:
    """HTML of one run of tokens; `experts` has the first expert of each, None for a token without one."""
    titles = []
    colours = []
    for expert in experts:
        if expert is None:
            titles.append(say("the last token: the model did not read it any more, so it went to no expert"))
            colours.append("#ddd")
        else:
            hue = 137 * expert % 360  # degrees on the colour circle; 137 apart, neighbours look different
            titles.append(say("expert {expert}", expert=expert))
            colours.append(f"hsl({hue}, 70%, 80%)")
    title = titles[0]
    background = colours[0]
    if len(experts) > 1:
        title = say("{count} tokens: {experts}", count=len(experts), experts=listed(titles))
        background = f"linear-gradient(90deg, {', '.join(colours)})"
    shown = html.escape(text).replace("\n", "↵")
    return f'<span title="{title}" style="background: {background}; color: #222">{shown}</span>'
