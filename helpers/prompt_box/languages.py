"""In which language a text is, for screen readers: they read each text with the voice of its language."""

import re

from helpers.language import HTML_NAMES

CHINESE = "zh-CN"
ENGLISH = "en"
UNKNOWN = ""  # HTML's word for it

CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)  # in no language that has a voice
LETTERS_FOR_A_CHARACTER = 4  # a Chinese character says about as much as so many Latin letters
LEAST_OTHERS = 0.02  # a text with a larger share of other letters, such as é, か or ж, is in another language


def language_of(text: str) -> str | None:
    """`zh-CN`, `en`, or "" for another language, guessed from its letters; None for a text without letters.

    Code is left out. The model writes Chinese and English, so a text in plain Latin letters counts as
    English.
    """
    chinese = 0
    latin = 0
    others = 0
    for character in CODE.sub("", text):
        if "\u4e00" <= character <= "\u9fff":
            chinese += 1
        elif character.isascii() and character.isalpha():
            latin += 1
        elif character.isalpha():
            others += 1
    letters = chinese + latin + others
    if letters == 0:
        return None
    if others > LEAST_OTHERS * letters:
        return UNKNOWN
    if chinese * LETTERS_FOR_A_CHARACTER >= latin:
        return CHINESE
    return ENGLISH


def labelled(page: str, text: str, around: str) -> str:
    """`page`, the HTML of `text`, with its language where that is another one than that of the box around it.

    `around` is a language of the course: `en` or `zh`.
    """
    found = language_of(text)
    if found is None or found == HTML_NAMES[around]:
        return page
    return f'<div lang="{found}">{page}</div>'
