"""What the model card says that the embedded model can do, recomputed from the shipped weights."""

import random

import pytest
import torch
from function_values import gives_right_values

from helpers.embedded_model import card, corpus, measure

INTRODUCTIONS = {
    "Give me a short introduction to large language model.": corpus.ENTRIES["subject"][0]["en"]["answer"],
    "简单介绍一下大语言模型": corpus.ENTRIES["subject"][0]["zh"]["answer"],
}


# --- right answers, greedy, on wordings and numbers that training never saw ---


@pytest.fixture(scope="module")
def answered(ask) -> dict[str, list[tuple[corpus.Turn, str]]]:
    """Every held-out turn with the model's answer, by group."""
    groups = measure.groups()
    turns = [turn for group in groups.values() for turn in group]
    answers = iter(ask([measure.chat_of(turn.question) for turn in turns]))
    return {name: [(turn, next(answers)) for turn in group] for name, group in groups.items()}


@pytest.mark.parametrize("name", list(measure.groups()))
def test_held_out_rate_is_the_one_in_the_card(answered, results, name):
    right = sum(1 for turn, answer in answered[name] if answer in turn.right)
    stated, total = results["held_out"][name]
    assert total == len(answered[name])
    assert abs(right - stated) <= 2  # processors round bf16 differently
    if name in card.FLOORS:
        assert right >= card.FLOORS[name] * total


def test_outside_questions_get_the_honest_answer(answered):
    refusals = tuple(corpus.TEMPLATES["refusal"].values())
    answers = []
    for name, group in answered.items():
        if name.startswith("Outside"):
            answers += [answer for _, answer in group]
    assert len(answers) >= 190
    honest = sum(1 for answer in answers if answer in refusals)
    assert honest >= card.FLOORS["Outside questions"] * len(answers)


def test_every_answer_ends(answered):
    endless = [
        turn.question for group in answered.values() for turn, answer in group if measure.NO_END in answer
    ]
    assert not endless


def test_python_functions_run_and_give_right_values(answered, tmp_path, capsys):
    names = [function["en"]["names"][0] for function in corpus.ENTRIES["function"]] * 2
    right = 0
    for name, (turn, answer) in zip(names, answered["Python functions"], strict=True):
        if gives_right_values(name, turn.question, answer, tmp_path, capsys):
            right += 1
    assert right >= card.FLOORS["Python functions"] * len(names)


@pytest.mark.parametrize("name", ["Sums and differences", "Python functions"])
def test_the_repetition_penalty_breaks_nothing(ask, answered, name):
    """The penalty of the generation config is in force in `answered`; here some of its turns go without."""
    some = answered[name][::4]
    bare = ask([measure.chat_of(turn.question) for turn, _ in some], repetition_penalty=1.0)
    with_penalty = sum(1 for turn, answer in some if answer in turn.right)
    without = sum(1 for (turn, _), answer in zip(some, bare, strict=True) if answer in turn.right)
    assert with_penalty >= without - 1


@pytest.mark.parametrize("cases", ["named", "other wordings"])
def test_follow_ups(ask, results, cases):
    name = f"Follow-ups, {cases}"
    made = {"named": measure.named_follow_ups, "other wordings": measure.held_out_follow_ups}[cases]()
    some = made[::2]
    right = sum(measure.right_follow_ups(ask, some))
    stated, total = results["held_out"][name]
    assert total == len(made)
    assert right / len(some) == pytest.approx(stated / total, abs=0.06)
    assert right >= (card.FLOORS[name] - 0.02) * len(some)


@pytest.mark.parametrize("before", [7, 19])
def test_a_late_turn_is_as_good_as_the_first(ask, results, before):
    cases = measure.later_turns(before)[::3]
    assert all(len(chat) == 2 * before + 1 for chat, _ in cases)
    answers = ask([chat for chat, _ in cases])
    right = [turn.right for _, turn in cases]
    late = measure.marks(answers, right).count(True)
    first = measure.right_answers(ask, [turn for _, turn in cases]).count(True)
    allowed = card.LONG_CHAT_LOSS * len(cases)
    assert late >= first - allowed - 1
    assert not [answer for answer in answers if measure.NO_END in answer]
    stated, total = results["chats"][str(before)]["right"]
    assert late / len(cases) == pytest.approx(stated / total, abs=0.1)


def test_chats_of_a_thousand_tokens_are_in_the_card(results):
    assert results["chats"]["19"]["tokens"] >= 900
    alone, total = results["chats"]["0"]["right"]
    for before in ("7", "19"):
        late = results["chats"][before]["right"][0]
        assert late >= alone - card.LONG_CHAT_LOSS * total


# --- what the notebooks show ---


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.0}], ids=["penalty 1.05", "no penalty"])
def test_the_two_introductions(ask, options):
    assert ask([measure.chat_of(question) for question in INTRODUCTIONS], **options) == list(
        INTRODUCTIONS.values()
    )


@pytest.mark.parametrize(("language", "template"), [("en", "What is {x}?"), ("zh", "什么是{x}？")])
def test_every_subject_has_a_right_answer(ask, language, template):
    subjects = [subject[language] for subject in corpus.ENTRIES["subject"]]
    answers = ask([measure.chat_of(template.format(x=subject["names"][0])) for subject in subjects])
    right = [corpus.wordings(subject, language) for subject in corpus.ENTRIES["subject"]]
    assert measure.marks(answers, right).count(False) <= 3
    first = [(subject["answer"],) for subject in subjects[: corpus.FIRST_SUBJECTS]]
    usual = measure.marks(answers[: corpus.FIRST_SUBJECTS], first)
    assert usual.count(True) >= 0.8 * len(usual)


def test_questions_typed_in_other_ways(ask):
    english, chinese = INTRODUCTIONS.values()
    chat, functions = corpus.ENTRIES["chat"], corpus.ENTRIES["function"]
    expected = {
        "give me a short introduction to large language model": english,
        "Give me a short introduction to large language models ": english,
        "简单介绍一下大语言模型。": chinese,
        "hello": chat[0]["en"]["answer"],
        "你好": chat[0]["zh"]["answer"],
        "who are you?": chat[1]["en"]["answer"],
        "你是谁": chat[1]["zh"]["answer"],
        "Write a Python function that adds two numbers.": functions[0]["answer"],
        "What is 3 + 4?": "3 + 4 = 7.",
        "12 + 7": corpus.worked(12, "+", 7),
        "Tell me more.": corpus.TEMPLATES["refusal"]["en"],
    }
    assert dict(zip(expected, ask([measure.chat_of(text) for text in expected]), strict=True)) == expected


def test_answers_under_other_system_prompts(ask):
    systems = ["", *corpus.TEMPLATES["held_out_system"]]
    chats = [
        [{"role": "system", "content": system}, *measure.chat_of(question)]
        for system in systems
        for question in INTRODUCTIONS
    ]
    assert ask(chats) == list(INTRODUCTIONS.values()) * len(systems)


def test_margins_are_the_ones_in_the_card(model, tokenizer, results):
    assert set(results["margins"]) == set(measure.TYPICAL)
    for question in measure.TYPICAL[:4]:
        smallest = min(measure.margins(model, tokenizer, question))
        assert smallest == pytest.approx(results["margins"][question], abs=0.1)


# --- sampling ---


def test_samples_differ_and_are_right(ask, results):
    first = corpus.FIRST_SUBJECTS
    subjects = corpus.ENTRIES["subject"][first : first + 12]
    cold, usual, hot = (measure.sampling(ask, subjects, temperature) for temperature in (0.1, 0.7, 1.5))
    stated = results["sampling"]
    assert stated["0.7"]["differ"] >= 0.7
    assert stated["0.7"]["right"] >= 0.95
    assert usual["differ"] >= 0.5
    assert usual["right"] >= 0.95
    assert cold["same"] >= 0.7
    assert cold["differ"] < usual["differ"] < hot["differ"]


def test_hot_samples_are_odd_where_nothing_is_cut(ask, results):
    first = corpus.FIRST_SUBJECTS
    subjects = corpus.ENTRIES["subject"][first : first + 12]
    usual, hot = (
        measure.sampling(ask, subjects, temperature, **measure.NOTHING_CUT) for temperature in (0.7, 1.5)
    )
    stated = results["sampling_nothing_cut"]
    assert usual["right"] >= 0.9 and stated["0.7"]["right"] >= 0.9
    assert hot["right"] <= 0.5 and stated["1.5"]["right"] <= 0.5


def test_the_same_seed_gives_the_same_samples(ask):
    subjects = corpus.ENTRIES["subject"][:3]
    assert measure.samples(ask, subjects, 0.7, 3) == measure.samples(ask, subjects, 0.7, 3)


def test_entropy_is_the_one_in_the_card(model, tokenizer, results):
    turns = [turn for turn in measure.some_of_each_kind(40) if turn.kind in ("english", "arithmetic")]
    for kind in ("english", "arithmetic"):
        some = [turn for turn in turns if turn.kind == kind]
        entropy = measure.entropy_per_token(model, tokenizer, some)
        assert entropy == pytest.approx(results["entropy"][kind], abs=0.01)


# --- the routing ---


def test_routing_depends_on_the_kind_of_text_and_uses_every_expert(model, tokenizer, results):
    counts = measure.routing_counts(model, tokenizer, list(corpus.held_out_turns()))
    shares = [measure.least_used(counter, model.config.num_experts) for counter in counts]
    information = [measure.information(counter) for counter in counts]
    assert min(shares) >= 0.2
    assert sum(1 for value in information if value >= 0.2) >= 2
    assert information == pytest.approx(results["information"], abs=0.02)
    assert shares == pytest.approx(results["least_used"], abs=0.05)


def test_one_expert_matters_to_one_kind_of_text(model, tokenizer, results):
    stated = results["silenced"]
    few = measure.some_of_each_kind(8)
    intact = measure.answer_losses(model, tokenizer, few)

    def silence(layer, experts, weights):
        chosen = (experts == stated["expert"]) & (layer == stated["layer"])
        return weights.masked_fill(chosen, 0)

    with measure.changed_weights(model, silence):
        without = measure.answer_losses(model, tokenizer, few)
    added = sorted((without[kind] - intact[kind] for kind in intact), reverse=True)
    assert added[0] >= 0.3
    assert added[1] <= 0.1


def test_top_1_is_clearly_worse_than_top_4(ask, model, tokenizer, results):
    few = measure.some_of_each_kind(8)
    intact = measure.answer_losses(model, tokenizer, few)
    with measure.changed_weights(model, measure.only_best):
        top_1 = measure.answer_losses(model, tokenizer, few)
    assert all(top_1[kind] > intact[kind] for kind in intact)
    assert measure.answer_losses(model, tokenizer, few) == intact  # the hooks are gone
    for name in ("Sums and differences", "Python functions"):
        turns = measure.groups()[name][::6]
        with measure.changed_weights(model, measure.only_best):
            right = measure.right_answers(ask, turns).count(True)
        stated, total = results["held_out_top_1"][name]
        assert right / len(turns) == pytest.approx(stated / total, abs=0.15)
        assert stated <= results["held_out"][name][0] - 0.2 * total


def test_held_out_loss_is_the_one_in_the_card(model, tokenizer, results):
    turns = random.Random(3).sample(list(corpus.held_out_turns()), 200)
    losses = measure.answer_losses(model, tokenizer, turns)
    assert max(losses.values()) < 1
    assert torch.tensor(list(losses.values())).mean().item() == pytest.approx(
        results["held_out_loss"], abs=0.05
    )
