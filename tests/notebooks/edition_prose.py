"""What a text has in common with its translation: headings, links, code, numbers, lists, tables."""

import re
from collections import Counter
from decimal import Decimal
from pathlib import PurePosixPath

from edition_code import CHINESE_CHARACTER, is_english_sentence

MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
#: Words behind a number that are a part of it.
SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "千": 10**3,
    "万": 10**4,
    "亿": 10**8,
    "十亿": 10**9,
    "万亿": 10**12,
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(`+)(.+?)\1", flags=re.DOTALL)
#: A number that is not a part of a name such as bf16, A100 or Qwen1.5-7B.
NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])(?<![A-Za-z0-9]-)(\d+(?:\.\d+)?)(?:\s*(万亿|亿|万|千|[a-z]+illion|thousand))?"
)


def without_fences(text: str) -> str:
    return FENCE.sub("", text)


def reading_text(text: str) -> str:
    """What one reads of a text: no code, no addresses; of a picture its description."""
    text = CODE_SPAN.sub(" ` ", without_fences(text))
    text = re.sub(r'<img[^>]*?alt="([^"]*)"[^>]*>', r" \1 ", text)
    text = re.sub(r"\]\([^)\s]*\)", "] ", text)
    text = re.sub(r"<!--.*?-->|<[^>\u3400-\u9fff]+>", " ", text, flags=re.DOTALL)
    return re.sub(r"https?://[^\s)）]+|&\w+;", " ", text)


def plain_numbers(text: str) -> str:
    """A text whose thousands are not separated: 151,936 becomes 151936."""
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


def values(text: str) -> list[Decimal]:
    """The numbers of a text, in ascending order: 14.3 billion and 143 亿 are the same one."""
    text = plain_numbers(reading_text(text))
    for number, month in enumerate(MONTHS, start=1):
        text = re.sub(rf"(?<=\d ){month}\b|\b{month}(?= \d)", str(number), text)
    found = []
    for digits, scale in NUMBER.findall(text):
        found.append(Decimal(digits) * SCALES.get(scale, 1))
    return sorted(found)


def number_differences(english: str, chinese: str) -> list[str]:
    """Numbers that only one text has, or that one has more often.

    English says "2.7 or 14.3 billion" where Chinese says 27 亿 and 143 亿, so a number that is left over may
    be a million or a billion times smaller in the English text.
    """
    left = Counter(values(english))
    right = Counter(values(chinese))
    only_english = sorted((left - right).elements())
    only_chinese = sorted((right - left).elements())
    for value in list(only_english):
        for scaled in (value * 10**6, value * 10**9):
            if scaled in only_chinese:
                only_english.remove(value)
                only_chinese.remove(scaled)
                break
    if not only_english and not only_chinese:
        return []
    sides = [" ".join(f"{value:f}" for value in side) for side in (only_english, only_chinese)]
    return [f"numbers: only English [{sides[0]}], only Chinese [{sides[1]}]"]


def headings(text: str) -> list[tuple[int, str]]:
    """Level and section number of each heading, as in [(2, "3."), (3, "3.1")]; "" where it has no number."""
    found = []
    for signs, title in re.findall(r"^(#{1,6}) (.+)$", without_fences(text), flags=re.MULTILINE):
        number = re.match(r"\d+(\.\d+)*\.?(?= )", title)
        found.append((len(signs), number[0] if number else ""))
    return found


def link_targets(text: str, glossary: dict[str, str]) -> set[str]:
    """Where the links and pictures of a text lead, said alike for both editions."""
    text = CODE_SPAN.sub(" ", without_fences(text))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return {common_target(target, glossary) for target in targets}


def common_target(target: str, glossary: dict[str, str]) -> str:
    """One name for a target in both editions. `glossary`: Chinese anchor -> English anchor."""
    if target.startswith(("http://", "https://")):
        return target
    place, _sign, anchor = target.partition("#")
    name = PurePosixPath(place).name
    if name == "glossary.md":
        return f"glossary.md#{glossary.get(anchor, anchor)}"
    if anchor:
        number = re.match(r"\d+(\.\d+)*\.?(?=-)", anchor)
        anchor = number[0] if number else anchor
    place = place.replace(".zh.md", ".md")
    place = re.sub(r"_zh(\.(?:png|svg))$", r"\1", place)  # a picture has its words in both languages
    place = re.sub(r"(^|/)(en|zh)/", r"\1EDITION/", place)
    return f"{place}#{anchor}"


def for_any_edition(code: str) -> str:
    """Code in which the name of the edition is said alike: its folder, its setting, its README."""
    code = re.sub(r"(notebooks/|COURSE_LANG=)(en|zh)\b", r"\1EDITION", code)
    return code.replace("README.zh.md", "README.md").strip()


def code_spans(text: str) -> set[str]:
    return {for_any_edition(code) for _ticks, code in CODE_SPAN.findall(without_fences(text))}


def list_items(text: str) -> int:
    return len(re.findall(r"^\s*(?:[-*]|\d+\.) ", without_fences(text), flags=re.MULTILINE))


def table_columns(text: str) -> list[int]:
    """The number of cells in each row of the tables."""
    rows = re.findall(r"^\s*\|(.+)\|\s*$", CODE_SPAN.sub("`", without_fences(text)), flags=re.MULTILINE)
    return [row.count("|") + 1 for row in rows]


def picture_widths(text: str) -> list[str]:
    return re.findall(r'<img[^>]*?\swidth="(\d+)"', text)


def same_line(english: str, chinese: str, language: str) -> bool:
    """Whether two lines of a code block say the same; comments, prompts and messages may be Chinese."""
    if language != "text":
        lines = [re.sub(r"(^|\s+)#.*$", "", line) for line in (english, chinese)]
        english, chinese = [for_any_edition(line) for line in lines]
    if english == chinese:
        return True
    if not CHINESE_CHARACTER.search(chinese):
        return False
    if language in ("text", "console"):
        return values(english) == values(chinese)
    free = r'"[^"]*"|<[^>]*>'  # a prompt, or a place that the reader fills in
    return re.sub(free, "…", english) == re.sub(free, "…", chinese)


def fence_differences(english: str, chinese: str) -> list[str]:
    """Differences of the code blocks of two texts."""
    left, right = (
        [(match[2], match[3].splitlines()) for match in FENCE.finditer(t)] for t in (english, chinese)
    )
    if [language for language, _lines in left] != [language for language, _lines in right]:
        return [f"code blocks: {len(left)} / {len(right)}"]
    found = []
    for (language, lines), (_language, chinese_lines) in zip(left, right, strict=True):
        if len(lines) != len(chinese_lines):
            found.append(f"a code block has {len(lines)} / {len(chinese_lines)} lines")
            continue
        for line, chinese_line in zip(lines, chinese_lines, strict=True):
            if not same_line(line, chinese_line, language):
                found.append(f"code block: {line!r} / {chinese_line!r}")
    return found


def span_differences(english: str, chinese: str) -> list[str]:
    """Code spans that only one text has. One with Chinese characters stands for one that is missing."""
    left = code_spans(english)
    right = code_spans(chinese)
    translated = {span for span in right if CHINESE_CHARACTER.search(span)}
    missing = left - right
    added = right - left - translated
    if added or len(missing) != len(translated - left):
        return [f"code spans: only English {sorted(missing)}, only Chinese {sorted(right - left)}"]
    return []


def untranslated(chinese: str) -> list[str]:
    """Paragraphs, list items and table rows that are English sentences. What is quoted in “ ” may be."""
    text = re.sub(r"“[^”]*”", "", reading_text(chinese))
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) ?)", text)
    return [f"not translated: {block.strip()[:60]!r}" for block in blocks if is_english_sentence(block)]


def text_differences(
    english: str, chinese: str, glossary: dict[str, str], own_example: bool = False
) -> list[str]:
    """What differs between a text and its translation."""
    sides = {
        "headings": (headings(english), headings(chinese)),
        "links": (link_targets(english, glossary), link_targets(chinese, glossary)),
        "list items": (list_items(english), list_items(chinese)),
        "columns of the table rows": (table_columns(english), table_columns(chinese)),
        "widths of pictures": (picture_widths(english), picture_widths(chinese)),
    }
    found = []
    for what, (left, right) in sides.items():
        if left != right:
            found.append(f"{what}: {left} / {right}")
    if not own_example:
        found += number_differences(english, chinese) + span_differences(english, chinese)
    return [*found, *fence_differences(english, chinese), *untranslated(chinese)]


def anchor(heading: str) -> str:
    """The anchor that GitHub and Sphinx make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def glossary_anchors(english: str, chinese: str) -> dict[str, str]:
    """Chinese anchor -> English anchor; both glossaries have their terms in the same order."""
    left, right = (re.findall(r"^## (.+)$", text, flags=re.MULTILINE) for text in (english, chinese))
    pairs = zip(right, left, strict=False)
    return {anchor(term): anchor(english_term) for term, english_term in pairs}
