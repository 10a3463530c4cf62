"""The corpus and the training of the embedded model."""

import json
import random
import re
from pathlib import Path

import pytest
from function_values import VALUES, WITH_NUMBER, gives_right_values
from transformers import AutoModelForCausalLM, Qwen2MoeForCausalLM

from helpers import EMBEDDED_MODEL
from helpers.embedded_model import corpus, measure, train

SHORT = train.PLAN._replace(steps=3, rises_until=1, falls_from=1, longer_from=99, late_from=2)
SMALL_SHAPES = (train.Shape(2, 64, 1, 0.5),) * 3


def test_corpus_is_the_same_for_the_same_seed():
    chats = [[corpus.conversation(random.Random(seed)) for _ in range(3)] for seed in (7, 7, 8)]
    assert chats[0] == chats[1] != chats[2]
    assert list(corpus.held_out_turns()) == list(corpus.held_out_turns())


def test_held_out_questions_are_not_in_the_training_text():
    rng = random.Random(0)
    chats = [corpus.conversation(rng) for _ in range(5000)]
    trained = {message["content"].strip().lower() for chat in chats for message in chat}
    turns = list(corpus.held_out_turns())
    asked = {turn.question.strip().lower() for turn in turns}
    assert not trained & (asked - {""})
    text = json.dumps(corpus.OUTSIDE, ensure_ascii=False)
    refusals = set(corpus.TEMPLATES["refusal"].values())
    outside = [turn.question for turn in turns if turn.answer in refusals]
    assert len(outside) >= 190
    assert not [question for question in outside if f'"{question}"' in text]


@pytest.mark.parametrize("topic", ["subject", "function", "sum", "follow_up"])
def test_held_out_wordings_are_not_training_wordings(topic):
    def flat(value) -> set[str]:
        if isinstance(value, str):
            return {value}
        items = value.values() if isinstance(value, dict) else value
        return set().union(*[flat(item) for item in items])

    trained = flat(corpus.TEMPLATES[topic]) | flat(corpus.TEMPLATES[corpus.LATE + topic])
    assert not trained & flat(corpus.TEMPLATES[corpus.HELD_OUT + topic])
    assert not trained & flat(corpus.TEMPLATES.get(corpus.FRESH + topic, []))


def test_every_subject_has_three_wordings_and_all_parts():
    several = 0
    for subject in corpus.ENTRIES["subject"]:
        for language in ("en", "zh"):
            several += len(set(corpus.wordings(subject, language))) // 3
            texts = [subject[language][part] for part in corpus.PARTS]
            assert len(set(texts)) == len(texts)
            assert all(text.endswith((".", "。")) for text in texts)
    assert several == 2 * len(corpus.ENTRIES["subject"]) >= 2 * 30


def test_every_step_of_a_worked_sum_is_true():
    for a in range(100):
        for b in range(100):
            for sign in "+-":
                steps = corpus.worked(a, sign, b).removesuffix(".").split("; ")
                assert all(eval(step.replace(" = ", " == ")) for step in steps)
                assert steps[-1].startswith(f"{a} {sign} {b} = ")


def test_python_answers_give_right_values(tmp_path, capsys):
    """The corpus itself: what the model learns is right."""
    names = {function["en"]["names"][0] for function in corpus.ENTRIES["function"]}
    assert names == {*VALUES, *WITH_NUMBER, "prints hello world", "reads a text file"}
    for function in corpus.ENTRIES["function"]:
        name = function["en"]["names"][0]
        answer = function["answer"].replace("{n}", "23")
        assert gives_right_values(name, "23", answer, tmp_path, capsys), name
        broken = answer.replace("return", "return 1 or").replace("print(", "print('x', ")
        assert not gives_right_values(name, "23", broken, tmp_path, capsys), name


def test_misspelt_changes_one_letter_of_a_word():
    rng = random.Random(1)
    texts = {corpus.misspelt(rng, "What is bf16 or softmax?") for _ in range(50)}
    assert len(texts) > 10
    assert all("bf16" in text for text in texts)


def test_contrasts_are_outside_questions():
    """No slot is left, none is held out, and no numbers make a sum that the model is asked for."""
    rng = random.Random(9)
    turns = [corpus.contrast_turn(rng, rng.choice(("en", "zh"))) for _ in range(20_000)]
    questions = {turn.question for turn in turns}
    assert len(questions) > 15_000
    assert not [question for question in questions if re.search(r"[{}]", question)]
    assert {turn.answer for turn in turns} == set(corpus.TEMPLATES["refusal"].values())
    held_out = {turn.question.strip().lower() for turn in corpus.held_out_turns()}
    assert not {question.strip().lower() for question in questions} & (held_out - {""})
    small = re.compile(r"(?<![\d.])\d{1,2} ?(\+|-|plus|minus|加|减) ?\d{1,2}(?![\d.]| [+*-]|\s*再)")
    assert not [question for question in questions if re.fullmatch(r"\W*" + small.pattern + r"\W*", question)]


def test_a_piece_of_a_name_is_no_subject():
    for language in ("en", "zh"):
        names = {name.lower() for subject in corpus.ENTRIES["subject"] for name in subject[language]["names"]}
        words = {word for piece in corpus.pieces(language).values() for word in piece}
        assert len(words) > 100
        assert not words & names


def test_slips_change_a_text_a_little():
    rng = random.Random(2)
    text = "Where is the nearest station?"
    slipped = {corpus.slips(rng, text) for _ in range(50)}
    assert len(slipped - {text}) > 40
    assert all(abs(len(new) - len(text)) <= 4 for new in slipped)
    assert corpus.slips(rng, "?")


@pytest.fixture
def small_training(monkeypatch):
    """Tiny batches, so that a training run takes seconds."""
    monkeypatch.setattr(train, "SHAPES", SMALL_SHAPES)
    monkeypatch.setattr(train, "CHECKPOINT_STEPS", 2)


def weights(folder: Path) -> dict:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_a_training_run_writes_only_to_its_folder(tmp_path, small_training, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in EMBEDDED_MODEL.iterdir()}
    out = tmp_path / "new"
    train.train(out, SHORT)
    results = json.loads((out / "training_results.json").read_text())
    assert results["training"]["steps"] == 3
    names = {path.name for path in EMBEDDED_MODEL.iterdir()}
    assert {path.name for path in out.iterdir()} <= names
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) >= 3

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    written = {path: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(Qwen2MoeForCausalLM, "save_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.train(out, SHORT)
    kept = {path: path.read_bytes() for path in out.iterdir() if path.suffix != ".pt"}
    assert kept == written
    assert {path: path.stat().st_mtime_ns for path in EMBEDDED_MODEL.iterdir()} == before


def test_a_run_that_was_killed_goes_on_and_gives_the_same_weights(tmp_path, small_training, monkeypatch):
    train.train(tmp_path / "whole", SHORT)
    losses = train.losses
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(*arguments)

    monkeypatch.setattr(train, "losses", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train(tmp_path / "parts", SHORT)
    assert (tmp_path / "parts" / "checkpoint-1.pt").exists()
    train.train(tmp_path / "parts", SHORT)
    assert len(calls) == 4  # steps 0, 1, 2 (killed) and 2 again
    assert not (tmp_path / "parts" / "checkpoint-1.pt").exists()
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_another_seed_gives_another_model(tmp_path, small_training):
    train.train(tmp_path / "1", SHORT, seed=1)
    train.train(tmp_path / "2", SHORT, seed=2)
    first, second = weights(tmp_path / "1"), weights(tmp_path / "2")
    assert any((first[name] != second[name]).any() for name in first)


def test_follow_ups_of_the_measure_have_an_answer_each():
    for cases in (measure.named_follow_ups(), measure.held_out_follow_ups()):
        assert len(cases) >= 130
        assert all(text for _, _, right in cases for text in right)
