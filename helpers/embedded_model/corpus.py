"""The text that the toy model learns: short chats, made by a seeded generator from the files in `corpus/`.

Held-out turns have wordings, numbers and outside questions that training chats never contain.
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KINDS = ("english", "chinese", "code", "arithmetic")
KIND_OF = {"en": "english", "zh": "chinese"}
OTHER = {"en": "zh", "zh": "en"}
PARTS = ("more", "example", "why", "short")  # what can be asked about a subject besides what it is
# Before the name of a topic in `corpus/templates.json`: wordings that training never sees, and wordings that
# it sees only in its last part.
HELD_OUT = "held_out_"
LATE = "late_"
FRESH = "fresh_"  # never seen in training either, and written when the training text was complete
LATE_SHARE = 0.4  # of the turns in the last part of the training
LATE_WEIGHTS = {"subject": 42, "function": 10, "sum": 30, "outside": 18}
# How often training answers with the text `answer` of a subject, and with the two `variants`.
WORDING_WEIGHTS = (60, 25, 15)
EVENER_WEIGHTS = (46, 30, 24)  # at the end of the training, for all but the first subjects
FIRST_SUBJECTS = 20  # the notebooks ask about these: the usual answer to them must be clearly the likeliest
LARGEST = (9, 99, 99, 99, 99)  # one number of a sum in five has one digit
CONTRAST_SHARE = 0.1  # of all turns of the training, besides the outside questions among the topics
TOPIC_WEIGHTS = {
    "subject": 40,
    "function": 11,
    "sum": 36,
    "outside": 26,
    "chat": 5,
}


def read(name: str) -> dict | list:
    """Read `corpus/<name>.json`."""
    file = Path(__file__).parent / "corpus" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


ENTRIES = {
    "subject": read("subjects"),
    "function": read("functions"),
    "chat": read("chat"),
}
TEMPLATES = read("templates")
OUTSIDE = read("out_of_scope")
CONTRAST = read("contrast")


class Turn(NamedTuple):
    """A question and its answer.

    `kind` is one of KINDS. `right` has every answer that counts as right, `answer` is one of them. `subject`
    is an entry of ENTRIES["subject"] when the turn is about one, and `part` says which of its texts it gave.
    """

    kind: str
    question: str
    answer: str
    right: tuple[str, ...]
    subject: dict | None = None
    part: str = "answer"


def fill(rng: random.Random, text: str, *words: dict[str, list[str]]) -> str:
    """Replace every {slot} by a random one of its words, which may hold slots themselves.

    With several dictionaries each slot takes one that has it, by chance: this mixes languages.
    """
    while slot := re.search(r"\{(\w+)\}", text):
        having = [dictionary for dictionary in words if slot[1] in dictionary]
        choices = rng.choice(having)[slot[1]]
        text = text.replace(slot[0], rng.choice(choices), 1)
    return text


# --- one turn ---


def name_of(rng: random.Random, names: list[str]) -> str:
    """One of the names, now and then without its article, as people type it."""
    name = rng.choice(names)
    if rng.random() < 0.3:
        return re.sub("^(an?|the) ", "", name)
    return name


def wordings(subject: dict, language: str) -> tuple[str, ...]:
    """The right answers to the question what the subject is; the most frequent one first."""
    return (subject[language]["answer"], *subject[language]["variants"])


def subject_turn(
    rng: random.Random,
    subject: dict,
    language: str,
    part: str = "answer",
    split: str = "",
    weights: tuple[int, ...] = WORDING_WEIGHTS,
) -> Turn:
    """Ask what a subject is, or for one of PARTS. `split` is empty, or LATE, or HELD_OUT."""
    names = subject[language]["names"]
    if split in ("", LATE) and rng.random() < 0.06:
        names = subject[OTHER[language]]["names"]  # "What is 注意力?" is answered in the language around it
    if part == "answer":
        templates = TEMPLATES[split + "subject"][language]
        right = wordings(subject, language)
        if subject in ENTRIES["subject"][:FIRST_SUBJECTS]:
            weights = WORDING_WEIGHTS
        answer = rng.choices(right, weights)[0]
    else:
        templates = TEMPLATES["part"][part][language]
        answer = subject[language][part]
        right = (answer,)
    question = rng.choice(templates).replace("{x}", name_of(rng, names))
    return Turn(KIND_OF[language], question, answer, right, subject, part)


def function_turn(rng: random.Random, function: dict, language: str, split: str = "") -> Turn:
    """Ask for a Python function. Numbers that are multiples of seven are held out."""
    wanted = [number for number in range(2, 100) if (number % 7 == 0) == (split == HELD_OUT)]
    number = str(rng.choice(wanted))
    what = rng.choice(function[language]["names"])
    template = rng.choice(TEMPLATES[split + "function"][language])
    question = template.replace("{x}", what)
    answer = function["answer"].replace("{n}", number)
    return Turn("code", question.replace("{n}", number), answer, (answer,))


def chat_turn(rng: random.Random, entry: dict, language: str) -> Turn:
    """A greeting, thanks, or a question about the model itself."""
    answer = entry[language]["answer"]
    question = rng.choice(entry[language]["names"])
    return Turn(KIND_OF[language], question, answer, (answer,))


def worked(a: int, sign: str, b: int) -> str:
    """The answer to a sum or difference of numbers up to 99, with the steps that lead to it.

    Each step needs only two digits and a carry: "7 + 8 = 15; 2 + 5 + 1 = 8; 27 + 58 = 85."
    """
    steps = []
    if sign == "-" and a < b and b > 9:
        steps.append(f"{a} < {b}")
        steps.append(worked(b, "-", a).removesuffix("."))
    elif max(a, b) > 9:
        ones_a, ones_b = a % 10, b % 10
        tens_a, tens_b = a // 10, b // 10
        carry = ""
        if sign == "+":
            ones = ones_a + ones_b
            tens = tens_a + tens_b
            if ones > 9:
                carry = " + 1"
                tens += 1
        else:
            tens = tens_a - tens_b
            if ones_a < ones_b:
                carry = " - 1"
                tens -= 1
                ones_a += 10
            ones = ones_a - ones_b
        steps.append(f"{ones_a} {sign} {ones_b} = {ones}")
        steps.append(f"{tens_a} {sign} {tens_b}{carry} = {tens}")
    result = a + b if sign == "+" else a - b
    return "; ".join([*steps, f"{a} {sign} {b} = {result}."])


def sum_turn(rng: random.Random, split: str = "") -> Turn:
    """Ask for a sum or difference of two numbers up to 99. One pair of numbers in eleven is held out."""
    while True:
        a = rng.randint(0, rng.choice(LARGEST))
        b = rng.randint(0, rng.choice(LARGEST))
        if ((a + 2 * b) % 11 == 0) == (split == HELD_OUT):
            break
    sign = rng.choice("+-")
    if sign == "-" and a < b and rng.random() < 0.7:
        sign = "+"
    words = rng.choice(("any", "any", sign))
    spaced = f"{a} {sign} {b}"
    if rng.random() < 0.15:
        spaced = f"{a}{sign}{b}"
    template = rng.choice(TEMPLATES[split + "sum"][words])
    question = template.format(x=spaced, a=a, b=b)
    answer = worked(a, sign, b)
    return Turn("arithmetic", question, answer, (answer,))


def refusal(language: str, question: str) -> Turn:
    """Answer honestly that the model is not made for the question."""
    answer = TEMPLATES["refusal"][language]
    return Turn(KIND_OF[language], question, answer, (answer,))


def nonsense(rng: random.Random) -> str:
    """Letters, digits or marks without a sense, such as a cat on the keyboard makes."""
    kinds = ("abcdefghijklmnopqrstuvwxyz", "asdfjkl", "0123456789", "?!.,;:-_#*+~", "xq z7?")
    letters = rng.choice(kinds)
    length = rng.randint(1, 10)
    return "".join(rng.choice(letters) for _ in range(length))


def outside_turn(rng: random.Random, language: str) -> Turn:
    """A question that the model is not made for, from a template for it or for subjects and functions."""
    way = rng.random()
    lists = OUTSIDE[language]
    if way < 0.07:
        return refusal(language, rng.choice(lists["plain"]))
    if way < 0.15:
        return refusal(language, rng.choice(lists["odd"]))
    if way < 0.18:
        return refusal("en", nonsense(rng))
    if way < 0.40:
        text = rng.choice(TEMPLATES["subject"][language])
    elif way < 0.45:
        part = rng.choice(PARTS)
        text = rng.choice(TEMPLATES["part"][part][language])
    elif way < 0.50:
        text = rng.choice(TEMPLATES["function"][language])
        text = text.replace("{x}", "{code}")
    else:
        text = rng.choice(lists["templates"])
    text = text.replace("{x}", "{anything}")
    words = [lists["slots"]]
    if rng.random() < 0.1:
        words.append(OUTSIDE[OTHER[language]]["slots"])
    return refusal(language, fill(rng, text, *words))


def pieces(language: str) -> dict[str, list[str]]:
    """The slots `piece` and `tail`: beginnings and ends of words in the names of the subjects.

    An English piece has about half of the letters of its word, a Chinese one is a single character.
    """
    names = " ".join(name for subject in ENTRIES["subject"] for name in subject[language]["names"])
    if language == "zh":
        return {"piece": sorted(set(re.findall("[\u4e00-\u9fff]", names)))}
    words = sorted(set(re.findall("[a-z]{6,}", names.lower())))
    ends = [(word[: len(word) // 2 + 1], word[len(word) // 2 :]) for word in words]
    return {"piece": [begin for begin, _ in ends], "tail": [end for _, end in ends]}


def contrast_slots(language: str) -> dict[str, list[str]]:
    """The words for the slots in `corpus/contrast.json`, with those that are made here: names, numbers."""
    made = pieces(language) | {
        "subject": [name for subject in ENTRIES["subject"] for name in subject[language]["names"]],
        "n": [str(number) for number in range(120)],
        "large": [str(number) for number in range(103, 9999, 13)],
    }
    return OUTSIDE[language]["slots"] | CONTRAST[language]["slots"] | made


CONTRAST_SLOTS = {language: contrast_slots(language) for language in ("en", "zh")}


def contrast_turn(rng: random.Random, language: str) -> Turn:
    """A question that the model is not made for, and that looks a little like one that it is made for.

    Words are those of a subject in another sense, numbers are no sum, functions handle what no list or text
    holds, names are invented.
    """
    kinds = CONTRAST[language]["templates"]
    template = rng.choice(kinds[rng.choice(tuple(kinds))])
    other = CONTRAST_SLOTS[OTHER[language]]
    mixed = {
        "other_noun": [fill(rng, rng.choice(("{noun}", "{thing}", "{food}", "{animal}", "{city}")), other)],
        "other_question": [fill(rng, "{question}", other)],
    }
    question = fill(rng, template, CONTRAST_SLOTS[language] | mixed)
    if rng.random() < 0.2 and not re.search(r"\d", question):
        question = slips(rng, question)  # not in numbers: they could become a sum
    return refusal(language, question)


def follow_up(rng: random.Random, last: Turn | None, split: str = "", wish: str = "") -> Turn:
    """Ask for more, an example, a reason, a shorter text, or the other language.

    It is answered only after a turn about a subject, in the language of the question, or the wanted one.
    `wish` is one of PARTS, or a language; without it one is drawn.
    """
    spoken = "zh" if last and last.kind == "chinese" else "en"
    if not last:
        spoken = rng.choice(("en", "zh"))
    wish = wish or rng.choice((*PARTS, OTHER[spoken]))
    asked_in = spoken
    if split != HELD_OUT and rng.random() < 0.12:
        asked_in = OTHER[spoken]
    question = rng.choice(TEMPLATES[split + "follow_up"][wish][asked_in])
    said_in = asked_in if wish in PARTS else wish
    if not last or not last.subject:
        return refusal(said_in, question)
    part = wish if wish in PARTS else last.part
    answer = last.subject[said_in][part]
    right = (answer,)
    if part == "answer":
        right = wordings(last.subject, said_in)
    return Turn(KIND_OF[said_in], question, answer, right, last.subject, part)


def any_turn(rng: random.Random, weights: tuple[int, ...] = WORDING_WEIGHTS) -> Turn:
    """Make one training turn on a random topic. `weights` are those of the wordings of a subject."""
    topics = tuple(TOPIC_WEIGHTS.values())
    topic = rng.choices(tuple(TOPIC_WEIGHTS), topics)[0]
    language = rng.choice(("en", "zh"))
    if topic == "sum":
        return sum_turn(rng)
    if topic == "outside":
        return outside_turn(rng, language)
    entry = rng.choice(ENTRIES[topic])
    if topic == "function":
        return function_turn(rng, entry, language)
    if topic == "chat":
        return chat_turn(rng, entry, language)
    part = "answer"
    if rng.random() < 0.28:
        part = rng.choice(PARTS)
    return subject_turn(rng, entry, language, part, weights=weights)


def late_turn(rng: random.Random, last: Turn | None, weights: tuple[int, ...]) -> Turn:
    """Make one training turn in a wording of the last part of the training."""
    if last and last.subject and rng.random() < 0.5:
        return follow_up(rng, last, LATE)
    topics = tuple(LATE_WEIGHTS.values())
    topic = rng.choices(tuple(LATE_WEIGHTS), topics)[0]
    language = rng.choice(("en", "zh"))
    if topic == "sum":
        return sum_turn(rng, LATE)
    if topic == "function":
        return function_turn(rng, rng.choice(ENTRIES["function"]), language, LATE)
    if topic == "subject":
        subject = rng.choice(ENTRIES["subject"])
        return subject_turn(rng, subject, language, split=LATE, weights=weights)
    about = rng.choice(("subject", "outside"))
    text = rng.choice(TEMPLATES[LATE + about][language])
    text = text.replace("{x}", "{anything}")
    return refusal(language, fill(rng, text, OUTSIDE[language]["slots"]))


# --- questions as people type them ---


def misspelt(rng: random.Random, text: str) -> str:
    """Change one letter of one longer English word: swapped, left out, or typed twice."""
    words = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not words:
        return text
    word = rng.choice(words)
    at = word.start() + rng.randint(0, len(word[0]) - 2)
    pair = text[at : at + 2]
    wrong = rng.choice((pair[::-1], pair[1], pair[0] + pair))
    return text[:at] + wrong + text[at + 2 :]


def slips(rng: random.Random, text: str) -> str:
    """One to four slips of the finger anywhere: two characters swapped, one left out, or one typed twice."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, len(text) - 1))
        pair = text[at : at + 2]
        wrong = rng.choice((pair[::-1], pair[1:] or pair, pair[:1] + pair))
        text = text[:at] + wrong + text[at + 2 :]
    return text


def framed(rng: random.Random, text: str) -> str:
    """Put polite or idle words before or after a question, now and then."""
    language = "zh" if re.search("[\u4e00-\u9fff]", text) else "en"
    if rng.random() < 0.12:
        if rng.random() < 0.5:
            text = text[:1].lower() + text[1:]
        text = rng.choice(TEMPLATES["opening"][language]) + text
    if rng.random() < 0.08:
        text += rng.choice(TEMPLATES["closing"][language])
    return text


def typed(rng: random.Random, text: str) -> str:
    """Vary a question as people type it: case, marks, spaces, a slip of the finger."""
    if len(text) > 6:
        text = framed(rng, text)
    if rng.random() < 0.15:
        text = text.lower()
    elif rng.random() < 0.02:
        text = text.upper()
    if rng.random() < 0.2:
        text = text.rstrip(".?。？!！") or text
    if rng.random() < 0.03:
        text += rng.choice(("?", "!", "??", "...", "？", "！"))
    if rng.random() < 0.4:
        text = re.sub(r"([\u4e00-\u9fff])([A-Za-z])", r"\1 \2", text)
    if rng.random() < 0.08:
        text = misspelt(rng, text)
    if rng.random() < 0.05:
        text += " "
    return text


# --- chats ---


def conversation(
    rng: random.Random,
    most_turns: int = 6,
    follow_ups: float = 0.5,
    late: float = 0.0,
    weights: tuple[int, ...] = WORDING_WEIGHTS,
    contrast: float = 0.0,
) -> list[dict[str, str]]:
    """Make one training chat of 1 to `most_turns` turns under a system prompt, as a list of messages.

    `follow_ups` is the probability that a turn about a subject is followed by a follow-up, `late` that of a
    wording that belongs to the last part of the training, `weights` how often each answer to the question
    what a subject is is given, `contrast` the probability of a turn from `contrast_turn`.
    Questions and answers also say their `kind`; the chat template takes no notice of it.
    """
    system = "You are a helpful assistant."
    if rng.random() < 0.4:
        template = rng.choice(TEMPLATES["system"])
        system = fill(rng, template, TEMPLATES["slots"])
    messages = [{"role": "system", "content": system}]
    last = None
    for _ in range(rng.randint(1, most_turns)):
        goes_on = 0.04
        if last and last.subject:
            goes_on = follow_ups
        if contrast and rng.random() < contrast:
            last = contrast_turn(rng, rng.choice(("en", "zh")))
        elif late and rng.random() < late:
            last = late_turn(rng, last, weights)
        elif rng.random() < goes_on:
            last = follow_up(rng, last)
        else:
            last = any_turn(rng, weights)
        question = typed(rng, last.question)
        for role, content in (("user", question), ("assistant", last.answer)):
            messages.append({"role": role, "content": content, "kind": last.kind})
    return messages


def in_one_language(question: str) -> bool:
    """Whether a question is plainly English or plainly Chinese: then the language of its answer matters."""
    english = question.isascii() and re.search("[A-Za-z]", question)
    chinese = re.search("[\u4e00-\u9fff]", question)
    other = re.search("[A-Za-z\u3040-\u30ff]", question)
    return bool(english) or (bool(chinese) and not other)


def held_out_turns() -> Iterator[Turn]:
    """Yield the fixed held-out set: subjects, functions and outside questions in both languages, 300 sums."""
    rng = random.Random(2024)
    outside = read("held_out")
    for language in ("en", "zh"):
        for subject in ENTRIES["subject"]:
            yield subject_turn(rng, subject, language, split=HELD_OUT)
        for function in ENTRIES["function"]:
            yield function_turn(rng, function, language, HELD_OUT)
        for question in outside[language]:
            turn = refusal(language, question)
            if not in_one_language(question):
                turn = turn._replace(right=tuple(TEMPLATES["refusal"].values()))
            yield turn
    for _ in range(300):
        yield sum_turn(rng, HELD_OUT)


def fresh_turns() -> Iterator[Turn]:
    """Yield every subject in both languages in wordings that were written after all others."""
    rng = random.Random(2025)
    for language in ("en", "zh"):
        for subject in ENTRIES["subject"]:
            yield subject_turn(rng, subject, language, split=FRESH)
