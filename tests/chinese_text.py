"""What is asked of everything that the course says in Chinese: the English figures, and no English left."""

import re

CHINESE = re.compile(r"[\u4e00-\u9fff]")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
#: Commands, addresses and paths: the same in both languages. A command ends at a Chinese character or sign.
COMMAND = re.compile(
    r"(?:pip|conda|python|ssh|git lfs|export|unset)\s+[\x20-\x7e]*|https?://[\x21-\x7e]+|(?:[~.\w-]*/)+[\w.-]*"
)
#: Three words in a row. Names of files, options and modules are none: signs stand in them.
ENGLISH = re.compile(r"(?<![\w./-])[A-Za-z]+(?:[,;:.]? [A-Za-z]+){2,}(?![\w./-])", re.ASCII)
#: One space: more of them stand between the columns of a table.
SPACE_BESIDE_SIGN = re.compile(r"[，。：；（）“”] (?! )|(?<! ) [，。：；（）“”]")


def numbers(text: str) -> list[str]:
    """The figures of a text, sorted: another language may put them in another order."""
    return sorted(NUMBER.findall(text))


def without_commands(text: str) -> str:
    return COMMAND.sub("…", text)


def english_in(text: str, quoted: tuple[str, ...] = ()) -> list[str]:
    """Runs of three English words, without commands and without what is `quoted` from elsewhere."""
    for words in quoted:
        text = text.replace(words, "…")
    return ENGLISH.findall(without_commands(text))


def check_chinese(english: str, chinese: str, *quoted: str) -> None:
    """The second text says in Chinese what the first one says in English."""
    assert not CHINESE.search(english), english
    assert CHINESE.search(chinese), chinese
    assert english_in(chinese, quoted) == [], chinese
    assert numbers(chinese) == numbers(english), f"{chinese}\n{english}"
    assert not SPACE_BESIDE_SIGN.search(chinese), f"a space beside full-width punctuation: {chinese}"
