"""Words that every notebook has at the same places, in each edition; the conventions look for them."""

import re
from dataclasses import dataclass

from helpers.language import catalogue


@dataclass(frozen=True)
class FixedWords:
    """What the frame of a notebook says in one language."""

    opening: tuple[str, ...]  # bold words of the first cell
    closing: tuple[str, ...]  # titles of the last three sections
    contents: str  # the page that the links "contents" lead to, beside the other edition
    other_edition: str  # the folder of the other edition
    other_name: str  # and what the link to it is called
    exercise: str  # how an exercise begins; {number} is its number
    predict: str  # a pattern of the request to predict
    not_compared: str  # how the comment begins that says why an output is not compared
    not_yet: str  # how a check begins that is not content
    right: str  # and one that is
    announces_two: re.Pattern  # texts that speak of more than the next cell


def said_in_chinese(sentence: str) -> str:
    """How the Chinese form of a sentence begins, up to its first field."""
    return catalogue().get(sentence, sentence).split("{")[0].strip()


WORDS = {
    "en": FixedWords(
        opening=("You will be able to", "Time", "Hardware", "Cost"),
        closing=("Summary", "Exercises", "What comes next"),
        contents="../../README.md",
        other_edition="../zh/",
        other_name="中文",
        exercise="**Exercise {number}.**",
        predict=r"\*\*?Predict\b",
        not_compared="# Not compared: ",
        not_yet="Not yet: ",
        right="Right: ",
        announces_two=re.compile(
            r"\b(second|third|fourth|fifth|last|next two|following two|two|three) (code )?cells?\b"
            r"|\b(the )?(cell|one) after (it|that|this)\b|\bcells below\b",
            re.IGNORECASE,
        ),
    ),
    "zh": FixedWords(
        opening=("你将学会", "时间", "硬件", "费用"),
        closing=("小结", "练习", "接下来"),
        contents="../../README.zh.md",
        other_edition="../en/",
        other_name="English",
        exercise="**练习 {number}**：",
        predict=r"\*\*?先预测",
        not_compared="# 不比较：",
        not_yet=said_in_chinese("Not yet: {reason}"),
        right=said_in_chinese("Right: {praise}"),
        announces_two=re.compile(
            r"(第[二三四五]|[两三四几]|最后一)个(代码)?单元格|(下面|接下来|后面)的?(那些|这些)(代码)?单元格"
            r"|(它|再)(后面|下面)的?(那个)?(代码)?单元格"
        ),
    ),
}
