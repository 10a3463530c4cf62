"""What the prompt box shows of a text: HTML that can do nothing.

A widget hands its HTML to the browser, and a browser runs what it finds there. So the text is escaped first;
after that, the only tags in it are those that this module writes, and in a text they have no attributes.
"""

import html
import re

# The first line of a block of code: ```, and what the writer says about the code, such as "python".
OPENING = re.compile(r"\s*(?P<marks>`{3,})(?P<info>[^`]*)")
CLOSING = re.compile(r"\s*(?P<marks>`{3,})\s*")

# What may stand inside a line. The name of a group says what was found.
INLINE = re.compile(
    r"""
      (?<!`) `   (?P<code>    [^`]+               ) `   (?!`)  # `code`
    | (?<!`) ``  (?P<quoting> [^`]+ (`[^`]+)*     ) ``  (?!`)  # ``code with a ` in it``
    | (?<!`) ``` (?P<fenced>  (?=\S) [^`]+ (?<=\S)) ``` (?!`)  # ```code``` with no space at its ends
    | \*\*       (?P<bold>    (?=\S) [^*]+ (?<=\S)) \*\*       # **bold** with no space at its ends
    """,
    re.VERBOSE,
)
TAGS = {"code": "code", "quoting": "code", "fenced": "code", "bold": "b"}


def render(text: str) -> str:
    """HTML of a text: blocks of code, inline code, bold, line breaks. All else shows as it was typed."""
    lines = html.escape(text).split("\n")
    longest_below = longest_closings_below(lines)
    parts = []
    here = 0
    while here < len(lines):
        if opens_code(lines[here], longest_below[here]) and here + 1 < len(lines):
            end = end_of_code(lines, here)
            parts.append(render_code(lines[here], lines[here + 1 : end]))
            here = end + 1  # below the closing line
        else:
            parts.append(render_line(lines[here]))
            here += 1
            if here < len(lines):
                parts.append("<br>")
    return "".join(parts)


def longest_closings_below(lines: list[str]) -> list[int]:
    """For each line, how many backticks the longest line of only backticks below it has; 0 if none is."""
    below = []
    longest = 0
    for line in reversed(lines):
        below.append(longest)
        closing = CLOSING.fullmatch(line)
        if closing:
            longest = max(longest, len(closing["marks"]))
    below.reverse()
    return below


def opens_code(line: str, longest_below: int) -> bool:
    """Whether a block of code begins with this line.

    One that is not closed is still being written. But several words behind the backticks may also be the
    beginning of a sentence: they open a block only if a line below closes it.
    """
    opening = OPENING.fullmatch(line)
    if not opening:
        return False
    words = opening["info"].split()
    return len(words) <= 1 or longest_below >= len(opening["marks"])


def end_of_code(lines: list[str], start: int) -> int:
    """Number of the line that closes the block opened in line `start`; without one, the number of lines."""
    marks = OPENING.fullmatch(lines[start])["marks"]
    for number in range(start + 1, len(lines)):
        closing = CLOSING.fullmatch(lines[number])
        if closing and len(closing["marks"]) >= len(marks):
            return number
    return len(lines)


def render_code(opening: str, code: list[str]) -> str:
    """HTML of a block of code; what its first line says about it, such as "python", stands above it."""
    info = OPENING.fullmatch(opening)["info"].strip()
    label = ""
    if info:
        label = f"<b>{info}</b>"
    return label + "<pre><code>" + "\n".join(code) + "</code></pre>"


def render_line(line: str) -> str:
    """HTML of one line of text, which is escaped already: inline code and bold."""

    def in_tag(found: re.Match) -> str:
        tag = TAGS[found.lastgroup]
        return f"<{tag}>{found[found.lastgroup]}</{tag}>"

    return INLINE.sub(in_tag, line)


def routing_strip(routing, tokenizer) -> str:
    """HTML: the tokens of an answer, coloured by their first expert in the last layer of a `Routing`."""
    tokens = routing.token_id[routing.decode].tolist()
    first_experts = routing.experts[routing.decode, -1, 0].tolist()
    spans = []
    for token, expert in zip(tokens, first_experts, strict=True):
        text = html.escape(tokenizer.decode([token]))
        hue = 137 * expert % 360  # 137 degrees on the colour circle: neighbours look different
        style = f"background: hsl({hue}, 70%, 80%); color: #222"
        spans.append(f'<span title="expert {expert}" style="{style}">{text}</span>')
    return f"<hr>First expert of each token in layer {routing.layers[-1]}: {''.join(spans)}"
