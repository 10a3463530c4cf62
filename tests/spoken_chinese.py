"""What a sentence has to be that was said in Chinese: Chinese, with the figures of the English one."""

import re

CHINESE_CHARACTER = re.compile(r"[\u4e00-\u9fff]")
#: Three words in a row. Names of files, options and modules are none: signs stand in them.
ENGLISH = re.compile(r"(?<![\w./-])[A-Za-z]+(?:,? [A-Za-z]+){2,}(?![\w./-])", re.ASCII)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: What a learner types, and texts for the model, are the same in both languages.
COMMANDS = ("pip install pysocks", "git lfs pull", "You are a helpful assistant.")


def figures(text: str) -> list[str]:
    """The numbers in a text, sorted: the languages have them in another order."""
    return sorted(NUMBER.findall(text))


def english_in(text: str, quoted: tuple[str, ...] = ()) -> list[str]:
    """Runs of three English words, without commands and without what is `quoted` from elsewhere."""
    for words in (*COMMANDS, *quoted):
        text = text.replace(words, "…")
    return ENGLISH.findall(text)


def require_chinese(english: str, chinese: str, *quoted: str) -> None:
    """The second text says in Chinese what the first one says in English."""
    assert not CHINESE_CHARACTER.search(english), english
    assert CHINESE_CHARACTER.search(chinese), chinese
    assert english_in(chinese, quoted) == [], chinese
    assert figures(chinese) == figures(english), chinese
    assert not re.search(r"[，。：；（）“”] | [，。：；（）“”]", chinese), (
        "a space beside full-width punctuation"
    )
