"""What the prompt box shows of a text: HTML that can do nothing.

A widget hands its HTML to the browser, and a browser runs what it finds there. So the text is escaped first;
after that, the only tags in it are those that this module writes, and they have no attributes.
"""

import html
import re

# Spaces, and in a list the sign or the number of an item.
ITEM = re.compile(r"\s*([-*+]|\d+[.)])?\s*")

# The first line of a block of code: ```, and perhaps a word about the code, such as "python".
OPENING = re.compile(rf"(?P<before>{ITEM.pattern})(?P<marks>`{{3,}})\s*(?P<info>[^`\s]*)\s*")

# A line that may be one as well: with a sentence before the ```, or with several words behind it.
PERHAPS_OPENING = re.compile(r"(?P<before>((?!```).)*)(?P<marks>```)(?!`)(?P<info>[^`]*)")

# The last line of a block of code: nothing but backticks, at least as many as in the first line.
CLOSING = re.compile(r"\s*(?P<marks>`{3,})\s*")

# What may stand inside a line. The name of a group says what was found.
INLINE = re.compile(
    r"""
      (?<!`) `   (?P<code>    [^`]+               ) `   (?!`)  # `code`
    | (?<!`) ``  (?P<quoting> [^`]+ (`[^`]+)*     ) ``  (?!`)  # ``code with a ` in it``
    | (?<!`) ``` (?P<fenced>  (?=\S) [^`]+ (?<=\S)) ``` (?!`)  # ```code``` with no space at its ends
    | (?<![0-9A-Za-z_)\]])                                      # not behind a number or a name: 2**3
      \*\*       (?P<bold>    (?=\S) [^*]+ (?<=\S)) \*\*       # **bold** with no space at its ends
    """,
    re.VERBOSE,
)
TAGS = {"code": "code", "quoting": "code", "fenced": "code", "bold": "b"}


def render(text: str) -> str:
    """HTML of a text: blocks of code, inline code, bold, line breaks. All else shows as it was typed."""
    lines = html.escape(text).split("\n")
    closings = count_closings_below(lines)
    parts = []
    here = 0
    while here < len(lines):
        opening = find_opening(lines[here], closings[here])
        if opening and here + 1 < len(lines):
            end = end_of_code(lines, here + 1, opening["marks"])
            parts.append(render_code(opening, lines[here + 1 : end]))
            here = end + 1  # below the closing line
        else:
            parts.append(render_line(lines[here]))
            here += 1
            if here < len(lines):
                parts.append("<br>")
    return "".join(parts)


def count_closings_below(lines: list[str]) -> list[int]:
    """For each line, how many lines of only backticks come below it before one that opens a block."""
    counts = []
    count = 0
    for line in reversed(lines):
        counts.append(count)
        if CLOSING.fullmatch(line):
            count += 1
        elif OPENING.fullmatch(line) or PERHAPS_OPENING.fullmatch(line):
            count = 0
    counts.reverse()
    return counts


def find_opening(line: str, closings_below: int) -> re.Match | None:
    """What opens a block of code in this line, if something does: `before`, `marks` and `info`.

    A block that is not closed is still being written. But ``` in a sentence may be only the name of the sign:
    it opens a block only if the lines of backticks below do not make pairs without it.
    """
    opening = OPENING.fullmatch(line)
    if opening:
        return opening
    perhaps = PERHAPS_OPENING.fullmatch(line)
    if not perhaps or closings_below % 2 == 0:
        return None
    words_before = perhaps["before"].split()
    words_behind = perhaps["info"].split()
    if words_before and len(words_behind) > 1:
        return None  # in the middle of a sentence
    return perhaps


def end_of_code(lines: list[str], start: int, marks: str) -> int:
    """Number of the first line from `start` on that closes a block; without one, the number of lines."""
    for number in range(start, len(lines)):
        closing = CLOSING.fullmatch(lines[number])
        if closing and len(closing["marks"]) >= len(marks):
            return number
    return len(lines)


def render_code(opening: re.Match, code: list[str]) -> str:
    """HTML of a block of code; what its first line says about it, such as "python", stands above it."""
    before = render_line(opening["before"].lstrip())
    info = opening["info"].strip()
    if info:
        info = f"<b>{info}</b>"
    indent = 0
    if ITEM.fullmatch(opening["before"]):
        indent = opening.start("marks")  # in a list, the code is as far to the right as its first line
    text = "\n".join(without_indent(line, indent) for line in code)
    return f"{before}{info}<pre><code>{text}</code></pre>"


def without_indent(line: str, width: int) -> str:
    """The line without its first `width` spaces, or without as many as it has."""
    spaces = len(line) - len(line.lstrip(" "))
    return line[min(width, spaces) :]


def render_line(line: str) -> str:
    """HTML of one line of text, which is escaped already: inline code and bold."""

    def in_tag(found: re.Match) -> str:
        tag = TAGS[found.lastgroup]
        return f"<{tag}>{found[found.lastgroup]}</{tag}>"

    return INLINE.sub(in_tag, line)
