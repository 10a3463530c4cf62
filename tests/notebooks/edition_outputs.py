"""What the outputs of a cell have in common with those of the other edition: kinds, numbers, figures."""

import hashlib
import re
from decimal import Decimal

from edition_prose import SCALES, plain_numbers

#: Tag of a cell whose output differs from run to run: only the kinds are compared.
NOT_COMPARED = {"nbval-ignore-output", "not-stored"}


def kind_of(output: dict) -> str:
    """What sort of output it is, as in "stream stdout" or "display_data image/png text/plain"."""
    details = [output.get("name", ""), output.get("ename", ""), *sorted(output.get("data", {}))]
    return " ".join([output["output_type"], *filter(None, details)])


def text_of(output: dict) -> str:
    """The text of an output as it is stored. A figure's own text is only its size."""
    data = output.get("data", {})
    texts = [output.get("text", ""), output.get("evalue", "")]
    if "image/png" not in data:
        texts += [value for kind, value in data.items() if kind.startswith("text/")]
    return "\n".join("".join(text) for text in texts)


#: A number, and the word behind it that is a part of it.
NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:\s*(万亿|十亿|亿|万|千|thousand|million|billion|trillion))?")


def numbers_of(output: dict) -> list[str]:
    """All numbers of an output, sorted: another language puts them in another order."""
    return sorted(digits for digits, _scale in NUMBER.findall(plain_numbers(text_of(output))))


def scaled_numbers_of(output: dict) -> list[str]:
    """The same, with the word behind a number counted in: 570 million and 5.7 亿 are the same one."""
    found = []
    for digits, scale in NUMBER.findall(plain_numbers(text_of(output))):
        if scale:
            digits = str(int(Decimal(digits) * SCALES[scale]))
        found.append(digits)
    return sorted(found)


def same_numbers(output: dict, chinese: dict) -> bool:
    """Whether two outputs show the same numbers, in the same unit or in that of their language."""
    if numbers_of(output) == numbers_of(chinese):
        return True
    return scaled_numbers_of(output) == scaled_numbers_of(chinese)


def figure_of(output: dict) -> str:
    """A short hash of the figure; "" if there is none."""
    figure = "".join(output.get("data", {}).get("image/png", ""))
    if not figure:
        return ""
    return hashlib.sha256(figure.encode()).hexdigest()[:12]


def output_differences(english: dict, chinese: dict, own_example: bool = False) -> list[str]:
    """What differs between the outputs of two code cells, apart from the language."""
    left = english["outputs"]
    right = chinese["outputs"]
    kinds = [kind_of(output) for output in left]
    chinese_kinds = [kind_of(output) for output in right]
    if kinds != chinese_kinds:
        return [f"kinds of output: {kinds} / {chinese_kinds}"]
    if own_example or NOT_COMPARED & set(english["metadata"].get("tags", [])):
        return []
    found = []
    for output, chinese_output in zip(left, right, strict=True):
        if not same_numbers(output, chinese_output):
            found.append(f"numbers of the output: {numbers_of(output)} / {numbers_of(chinese_output)}")
        if figure_of(output) != figure_of(chinese_output):
            found.append("the figure differs: its labels are English in both editions")
    return found
