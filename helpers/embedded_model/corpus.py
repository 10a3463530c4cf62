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


def read(name: str) -> dict | list:
    """Read `corpus/<name>.json`."""
    return json.loads((Path(__file__).parent / "corpus" / f"{name}.json").read_text(encoding="utf-8"))


ENTRIES = {"subject": read("subjects"), "function": read("functions"), "chat": read("chat")}
TEMPLATES, OUTSIDE = read("templates"), read("out_of_scope")


class Turn(NamedTuple):
    """A question, its answer, the kind of text (one of `KINDS`), and the subject when it is about one."""

    kind: str
    question: str
    answer: str
    subject: dict | None = None


def fill(rng: random.Random, text: str, words: dict[str, list[str]]) -> str:
    """Replace every {slot} by a random one of its words, which may hold slots themselves."""
    while slot := re.search(r"\{(\w+)\}", text):
        text = text.replace(slot[0], rng.choice(words[slot[1]]), 1)
    return text


def entry_turn(rng: random.Random, topic: str, entry: dict, language: str, split: str = "") -> Turn:
    """Ask about an entry of `ENTRIES[topic]`. `split` is empty for training, else "held_out_"."""
    name = rng.choice(entry[language]["names"])
    name = re.sub("^(an?|the) ", "", name) if rng.random() < 0.3 else name  # people leave out the article
    question = rng.choice(TEMPLATES[split + topic][language]).replace("{x}", name)
    number = str(rng.choice([n for n in range(2, 100) if (n % 7 == 0) == bool(split)]))
    if topic == "function":
        return Turn("code", question.replace("{n}", number), entry["answer"].replace("{n}", number))
    return Turn(KIND_OF[language], question, entry[language]["answer"], entry if topic == "subject" else None)


def sum_turn(rng: random.Random, split: str = "") -> Turn:
    """Ask for a sum or difference of two numbers up to 99. One pair of numbers in eleven is held out."""
    while True:
        a, b = rng.randint(0, 99), rng.randint(0, 99)
        if ((a + 2 * b) % 11 == 0) == bool(split):
            break
    x, result = (f"{a} + {b}", a + b) if a < b or rng.random() < 0.3 else (f"{a} - {b}", a - b)
    question = rng.choice(TEMPLATES[split + "sum"]).format(x=x)
    return Turn("arithmetic", question, f"{x} = {result}.")


def refusal(language: str, question: str) -> Turn:
    """Answer honestly that the model is not made for the question."""
    return Turn(KIND_OF[language], question, TEMPLATES["refusal"][language])


def follow_up(rng: random.Random, last: Turn) -> Turn:
    """Ask for more, or for the other language; there is an answer only after a turn about a subject."""
    language, other = ("zh", "en") if last.kind == "chinese" else ("en", "zh")
    part, said_in = rng.choice((("more", language), ("answer", other)))
    turn = refusal(said_in, rng.choice(TEMPLATES["ask_for_" + part][language]))
    return turn._replace(answer=last.subject[said_in][part]) if last.subject else turn


def any_turn(rng: random.Random) -> Turn:
    """Make one training turn on a random topic."""
    topic = rng.choices(("subject", "function", "sum", "outside", "chat"), weights=(30, 11, 34, 20, 5))[0]
    language = rng.choice(("en", "en", "zh") if topic == "function" else ("en", "zh"))
    if topic == "sum":
        return sum_turn(rng)
    if topic == "outside":
        templates = OUTSIDE[language]["plain" if rng.random() < 0.07 else "templates"]
        return refusal(language, fill(rng, rng.choice(templates), OUTSIDE[language]["slots"]))
    return entry_turn(rng, topic, rng.choice(ENTRIES[topic]), language)


def typed(rng: random.Random, text: str) -> str:
    """Vary a question as people type it: lower case, no final mark, a space in mixed text or at the end."""
    text = text.lower() if rng.random() < 0.15 else text
    text = text.rstrip(".?。？!！") or text if rng.random() < 0.2 else text
    text = re.sub(r"([\u4e00-\u9fff])([A-Za-z])", r"\1 \2", text) if rng.random() < 0.4 else text
    return text + " " if rng.random() < 0.05 else text


def conversation(rng: random.Random) -> list[dict[str, str]]:
    """Make one training chat of 1 to 6 turns under one of many system prompts, as a list of messages.

    Questions and answers also say their `kind`; the chat template takes no notice of it.
    """
    system = fill(rng, rng.choice(TEMPLATES["system"]), TEMPLATES["slots"])
    messages, last = [{"role": "system", "content": system}], None
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6))):
        goes_on = last is not None and rng.random() < (0.3 if last.subject else 0.05)
        last = follow_up(rng, last) if goes_on else any_turn(rng)
        messages.append({"role": "user", "content": typed(rng, last.question), "kind": last.kind})
        messages.append({"role": "assistant", "content": last.answer, "kind": last.kind})
    return messages


def held_out_turns() -> Iterator[Turn]:
    """Yield the fixed held-out set: subjects, functions and outside questions in both languages, 150 sums."""
    rng = random.Random(2024)
    for language in ("en", "zh"):
        for topic in ("subject", "function"):
            yield from (entry_turn(rng, topic, entry, language, "held_out_") for entry in ENTRIES[topic])
        yield from (refusal(language, question) for question in read("held_out")[language])
    yield from (sum_turn(rng, "held_out_") for _ in range(150))
