"""What is asked of everything that the course says in Chinese: the English figures, and no English left."""

import re

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
CHINESE = re.compile(r"[\u4e00-\u9fff]")

#: Commands, addresses and paths: the same in both languages. A command ends at a Chinese character or sign.
COMMAND = re.compile(
    r"(?:pip|conda|python|ssh|export|unset)\s+[\x20-\x7e]*|https?://[\x21-\x7e]+|(?:[~.\w-]*/)+[\w.-]*"
)
ENGLISH_WORDS = re.compile(r"\b[a-z]+(?:[ ,;:.]+[a-z]+\b){2,}")


def numbers(text: str) -> list[str]:
    """The figures of a text, sorted: another language may put them in another order."""
    return sorted(NUMBER.findall(text))


def without_commands(text: str) -> str:
    return COMMAND.sub("…", text)


def english_in(text: str) -> list[str]:
    """Runs of three English words or more that are no command. Names with capital letters are left out."""
    return ENGLISH_WORDS.findall(without_commands(" ".join(text.split())))


def check_chinese(chinese: str, english: str) -> None:
    """A sentence or a page that was said in both languages."""
    assert CHINESE.search(chinese), chinese
    assert english_in(chinese) == [], chinese
    assert numbers(chinese) == numbers(english), f"{chinese}\n{english}"
