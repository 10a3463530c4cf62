"""Measure what the model card states.

`train` runs this at its end, on the model that it made. The figures go to `training_results.json`, from which
`card` makes the card.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import EMBEDDED_MODEL, CourseError
from helpers.arguments import ArgumentParser
from helpers.embedded_model import card, corpus
from helpers.embedded_model.corpus import HELD_OUT, Turn
from helpers.language import say

ROWS = 64  # chats answered at once
NEW_TOKENS = 160  # no answer of the corpus is that long
TURNS_BEFORE = (0, 7, 19)  # of the questions that show how well the model answers in long chats
FEW = 8  # turns of each kind for the losses without experts
NOTHING_CUT = {"top_p": 1.0, "top_k": 0}  # every token can be drawn
NO_END = "[no end]"  # is appended to an answer that did not end with <|im_end|>, so that it counts as wrong
# The usual ones, said after an English and after a Chinese answer about a subject.
NAMED_FOLLOW_UPS = {
    "en": {
        "Tell me more.": ("more", "en"),
        "Give an example.": ("example", "en"),
        "Why?": ("why", "en"),
        "Shorter, please.": ("short", "en"),
        "In Chinese please.": ("answer", "zh"),
    },
    "zh": {
        "再多说一点。": ("more", "zh"),
        "举个例子。": ("example", "zh"),
        "为什么？": ("why", "zh"),
        "短一点。": ("short", "zh"),
        "用英文说": ("answer", "en"),
    },
}
TYPICAL = (
    "Give me a short introduction to large language model.",
    "简单介绍一下大语言模型",
    "What is a mixture of experts?",
    "What is a GPU?",
    "What is the KV cache?",
    "What is a router?",
    "什么是混合专家？",
    "什么是显存？",
    "什么是词元？",
    "What is 3 + 4?",
    "12 + 7",
    "What is 12 + 30?",
    "85 - 58 = ?",
    "Write a Python function that adds two numbers.",
    "Write a Python function that reverses a string.",
    "写一个 Python 函数，判断一个数是否为偶数。",
    "What is the capital of France?",
    "天空为什么是蓝色的？",
    "Hello",
    "你好",
    "Who are you?",
)
Chat = list[dict[str, str]]
Ask = Callable[..., list[str]]
FollowUp = tuple[str, str, tuple[str, ...]]  # first question, follow-up, right answers to it
Damage = dict[tuple[int, int], dict[str, float]]  # for each (layer, expert) a loss for each kind


def load(folder: Path):
    """The model and the tokenizer in a folder."""
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def chat_of(*texts: str) -> Chat:
    """A chat of questions and answers in turn."""
    chat = []
    role = "user"
    for text in texts:
        chat.append({"role": role, "content": text})
        role = "assistant" if role == "user" else "user"
    return chat


def text_of(tokenizer, ids: list[int]) -> str:
    """The text of an answer up to <|im_end|>, or all of it and NO_END."""
    end = tokenizer.eos_token_id
    if end not in ids:
        return tokenizer.decode(ids) + NO_END
    return tokenizer.decode(ids[: ids.index(end)])


def asker(model, tokenizer) -> Ask:
    """A function that answers many chats, ROWS at a time, greedily unless its options say otherwise."""

    def ask(chats: list[Chat], **options) -> list[str]:
        render = tokenizer.apply_chat_template
        settings = {"do_sample": False, "max_new_tokens": NEW_TOKENS} | options
        as_text = {"tokenize": False, "add_generation_prompt": True}
        texts = [render(chat, **as_text) for chat in chats]
        answers = [""] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(texts), ROWS):
            chosen = by_length[start : start + ROWS]
            prompts = [texts[index] for index in chosen]
            inputs = tokenizer(prompts, return_tensors="pt", padding=True)
            output = model.generate(**inputs, **settings)
            length = inputs["input_ids"].shape[1]
            for index, row in zip(chosen, output.tolist(), strict=True):
                answers[index] = text_of(tokenizer, row[length:])
        return answers

    return ask


# --- right answers ---


def groups() -> dict[str, list[Turn]]:
    """The held-out turns, by the name of their row in the card."""
    refusals = set(corpus.TEMPLATES["refusal"].values())
    result: dict[str, list[Turn]] = {}
    for turn in corpus.held_out_turns():
        name = {"code": "Python functions", "arithmetic": "Sums and differences"}.get(turn.kind)
        if name is None:
            language = "Chinese" if turn.kind == "chinese" else "English"
            what = "Outside questions" if turn.answer in refusals else "Subjects"
            name = f"{what} in {language}"
        result.setdefault(name, []).append(turn)
    for turn in corpus.fresh_turns():
        language = "Chinese" if turn.kind == "chinese" else "English"
        result.setdefault(f"Subjects in {language}, fresh wordings", []).append(turn)
    return result


def marks(answers: list[str], right: list[tuple[str, ...]]) -> list[bool]:
    """Whether each answer is one of its right ones."""
    return [answer in known for answer, known in zip(answers, right, strict=True)]


def right_answers(ask: Ask, turns: list[Turn], **options) -> list[bool]:
    """Whether each question, asked alone, gets a right answer."""
    chats = [chat_of(turn.question) for turn in turns]
    return marks(ask(chats, **options), [turn.right for turn in turns])


def named_follow_ups() -> list[FollowUp]:
    """First question, follow-up and right answers, for each named follow-up and every fourth subject."""
    cases = []
    for language, follow_ups in NAMED_FOLLOW_UPS.items():
        template = {"en": "What is {x}?", "zh": "什么是{x}？"}[language]
        for number, (question, (part, said_in)) in enumerate(follow_ups.items()):
            for subject in corpus.ENTRIES["subject"][number % 4 :: 4]:
                right = (subject[said_in].get(part),)
                if part == "answer":
                    right = corpus.wordings(subject, said_in)
                name = subject[language]["names"][0]
                cases.append((template.replace("{x}", name), question, right))
    return cases


def held_out_follow_ups() -> list[FollowUp]:
    """The same in held-out wordings: one follow-up for each subject and language."""
    rng = random.Random(77)
    cases = []
    for language in ("en", "zh"):
        for number, subject in enumerate(corpus.ENTRIES["subject"]):
            first = corpus.subject_turn(rng, subject, language, split=HELD_OUT)
            wishes = (*corpus.PARTS, corpus.OTHER[language])
            wish = wishes[number % len(wishes)]
            second = corpus.follow_up(rng, first, HELD_OUT, wish)
            cases.append((first.question, second.question, second.right))
    return cases


def right_follow_ups(ask: Ask, cases: list[FollowUp], **options) -> list[bool]:
    """Whether each follow-up gets a right answer, after the model's own answer to the first question."""
    firsts = ask([chat_of(first) for first, _, _ in cases], **options)
    chats = []
    for (first, follow_up, _), answer in zip(cases, firsts, strict=True):
        chats.append(chat_of(first, answer, follow_up))
    return marks(ask(chats, **options), [right for _, _, right in cases])


def later_turns(before: int) -> list[tuple[Chat, Turn]]:
    """Held-out questions after so many other turns, each as a chat that ends with the question."""
    rng = random.Random(88)
    chosen = rng.sample(list(corpus.held_out_turns()), 120)
    cases = []
    for turn in chosen:
        texts = []
        for _ in range(before):
            past = corpus.any_turn(rng)
            texts += [past.question, past.answer]
        cases.append((chat_of(*texts, turn.question), turn))
    return cases


# --- the routing ---


def kinds_of_content(tokenizer, turn: Turn) -> tuple[torch.Tensor, list[int], int]:
    """A chat of one turn: its ids (1, tokens), where question and answer stand, where the answer starts."""
    texts = {"system": "You are a helpful assistant.", "user": turn.question, "assistant": turn.answer}
    ids: list[int] = []
    content: list[int] = []
    start = 0
    for role, text in texts.items():
        ids += tokenizer.encode(f"<|im_start|>{role}\n")
        start = len(ids)
        ids += tokenizer.encode(text)
        if role != "system":
            content += range(start, len(ids))
        ids += tokenizer.encode("<|im_end|>\n")
    return torch.tensor([ids]), content, start


@torch.no_grad()
def routing_counts(model, tokenizer, turns: list[Turn]) -> list[Counter]:
    """For each layer how often each (kind, expert) was chosen, on the words of questions and answers."""
    counts = [Counter() for _ in range(model.config.num_hidden_layers)]
    for turn in turns:
        ids, content, _ = kinds_of_content(tokenizer, turn)
        layers = model(ids, output_router_logits=True).router_logits
        for counter, logits in zip(counts, layers, strict=True):
            experts = logits[content].topk(model.config.num_experts_per_tok).indices
            for expert in experts.flatten().tolist():
                counter[turn.kind, expert] += 1
    return counts


def information(counter: Counter) -> float:
    """Mutual information of kind and expert, over the entropy of the kind: 0 to 1."""
    total = counter.total()
    kinds: Counter = Counter()
    experts: Counter = Counter()
    for (kind, expert), count in counter.items():
        kinds[kind] += count
        experts[expert] += count
    shared = 0.0
    for (kind, expert), count in counter.items():
        if_independent = kinds[kind] * experts[expert] / total
        shared += count / total * math.log(count / if_independent)
    shares = [count / total for count in kinds.values()]
    entropy = -sum(share * math.log(share) for share in shares)
    return shared / entropy


def least_used(counter: Counter, experts: int) -> float:
    """The share of the least used expert over an even share."""
    uses = Counter()
    for (_, expert), count in counter.items():
        uses[expert] += count
    least = min(uses[expert] for expert in range(experts))
    return least / (counter.total() / experts)


@contextmanager
def changed_weights(model, change: Callable) -> Iterator[None]:
    """Within, every router's weights (tokens, k) are `change(layer, experts, weights)`."""

    def hook(layer: int) -> Callable:
        def changed(_module, _inputs, output):
            logits, weights, experts = output
            return logits, change(layer, experts, weights), experts

        return changed

    handles = []
    for number, layer in enumerate(model.model.layers):
        handles.append(layer.mlp.gate.register_forward_hook(hook(number)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def answer_losses(model, tokenizer, turns: list[Turn]) -> dict[str, float]:
    """Mean loss (nats) per token of the answers of each kind, `<|im_end|>` included."""
    total: Counter = Counter()
    count: Counter = Counter()
    for turn in turns:
        ids, _, start = kinds_of_content(tokenizer, turn)
        labels = ids.clone()
        labels[:, :start] = -100
        labels[:, -1] = -100  # the line break after <|im_end|>
        tokens = int((labels >= 0).sum())
        loss = model(ids, labels=labels).loss.item()
        total[turn.kind] += loss * tokens
        count[turn.kind] += tokens
    return {kind: total[kind] / count[kind] for kind in corpus.KINDS}


def some_of_each_kind(number: int) -> list[Turn]:
    """The first `number` held-out turns of each kind, without the refusals; their greedy wording."""
    refusals = set(corpus.TEMPLATES["refusal"].values())
    chosen: dict[str, list[Turn]] = {kind: [] for kind in corpus.KINDS}
    for turn in corpus.held_out_turns():
        of_kind = chosen[turn.kind]
        if turn.answer not in refusals and len(of_kind) < number:
            of_kind.append(turn._replace(answer=turn.right[0]))
    return [turn for turns in chosen.values() for turn in turns]


def silenced(model, tokenizer, turns: list[Turn]) -> Damage:
    """For each (layer, expert) the loss that each kind gains when its weight is set to 0."""
    intact = answer_losses(model, tokenizer, turns)
    damage = {}
    for layer in range(model.config.num_hidden_layers):
        for expert in range(model.config.num_experts):

            def silence(where, experts, weights, layer=layer, expert=expert):
                return weights.masked_fill((experts == expert) & (where == layer), 0)

            with changed_weights(model, silence):
                losses = answer_losses(model, tokenizer, turns)
            damage[layer, expert] = added(losses, intact)
    return damage


def added(losses: dict[str, float], intact: dict[str, float]) -> dict[str, float]:
    """How much larger the loss of each kind is than with the intact model."""
    return {kind: losses[kind] - intact[kind] for kind in intact}


def only_best(_layer, experts, weights):
    """Top-1: all but the best of the chosen experts are silenced (the weights come in falling order)."""
    best = torch.zeros_like(weights)
    best[:, 0] = weights[:, 0]
    return best


# --- sampling and margins ---


def samples(
    ask: Ask, subjects: list[dict], temperature: float, number: int = 8, **options
) -> list[list[str]]:
    """For each subject `number` answers in English, sampled with a fixed seed.

    Top-p and top-k are those of the shipped generation config, unless `options` has others.
    """
    chats = []
    for subject in subjects:
        chats += [chat_of(f"What is {subject['en']['names'][0]}?")] * number
    torch.manual_seed(5)
    answers = ask(chats, do_sample=True, temperature=temperature, **options)
    starts = range(0, len(answers), number)
    return [answers[start : start + number] for start in starts]


def sampling(ask: Ask, subjects: list[dict], temperature: float, **options) -> dict[str, float]:
    """What sampling does at a temperature, with the options of `samples`.

    `right`: share of right answers; `differ`: share of the subjects with two or more different right answers;
    `same`: share of the subjects whose answers are all the same.
    """
    right = differ = same = total = 0
    drawn = samples(ask, subjects, temperature, **options)
    for subject, answers in zip(subjects, drawn, strict=True):
        known = corpus.wordings(subject, "en")
        total += len(answers)
        right += sum(1 for answer in answers if answer in known)
        if len(set(answers) & set(known)) >= 2:
            differ += 1
        if len(set(answers)) == 1:
            same += 1
    return {
        "right": round(right / total, 3),
        "differ": round(differ / len(subjects), 3),
        "same": round(same / len(subjects), 3),
    }


@torch.no_grad()
def margins(model, tokenizer, question: str) -> list[float]:
    """For each token of the greedy answer the distance of the best score to the second best.

    The scores are logits after the repetition penalty, as `generate` compares them.
    """
    inputs = tokenizer.apply_chat_template(
        chat_of(question), add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        output_scores=True,
        return_dict_in_generate=True,
    )
    scores = torch.cat(output.scores).float()  # (tokens, vocabulary)
    best = scores.topk(2).values
    return (best[:, 0] - best[:, 1]).tolist()


@torch.no_grad()
def entropy_per_token(model, tokenizer, turns: list[Turn]) -> float:
    """Mean entropy (nats) of the next token along the most frequent answers, at temperature 1."""
    total = 0.0
    count = 0
    for turn in turns:
        usual = turn._replace(answer=turn.right[0])
        ids, _, start = kinds_of_content(tokenizer, usual)
        logits = model(ids).logits[0, start - 1 : -2]  # (tokens of the answer, vocabulary)
        scores = logits.float().log_softmax(-1)
        total += -(scores.exp() * scores).sum().item()
        count += len(scores)
    return total / count


# --- everything ---


def rate(right: list[bool]) -> list[int]:
    """How many of how many are right."""
    return [right.count(True), len(right)]


def rounded(values: dict[str, float]) -> dict[str, float]:
    """The same with three digits after the point."""
    return {name: round(value, 3) for name, value in values.items()}


def answer_figures(model, tokenizer) -> dict:
    """Right answers: greedy, with the shipped repetition penalty of 1.05, without one, and with top-1."""
    ask = asker(model, tokenizer)
    no_penalty = {"repetition_penalty": 1.0}
    held_out = {}
    bare = {}
    top_1 = {}
    for name, turns in groups().items():
        held_out[name] = rate(right_answers(ask, turns))
        bare[name] = rate(right_answers(ask, turns, **no_penalty))
        with changed_weights(model, only_best):
            top_1[name] = rate(right_answers(ask, turns))
    follow_ups = {"named": named_follow_ups(), "other wordings": held_out_follow_ups()}
    for kind, cases in follow_ups.items():
        name = f"Follow-ups, {kind}"
        held_out[name] = rate(right_follow_ups(ask, cases))
        bare[name] = rate(right_follow_ups(ask, cases, **no_penalty))
    figures = {"held_out": held_out, "without_penalty": bare, "held_out_top_1": top_1}
    return figures | {"chats": chat_figures(ask, tokenizer)}


def chat_figures(ask: Ask, tokenizer) -> dict[str, dict]:
    """Right answers to the same questions, asked alone and after other turns, and how long the chats are."""
    figures = {}
    for before in TURNS_BEFORE:
        cases = later_turns(before)
        answers = ask([chat for chat, _ in cases])
        tokens = 0
        for chat, _ in cases:
            tokens += len(tokenizer.apply_chat_template(chat)["input_ids"])
        right = rate(marks(answers, [turn.right for _, turn in cases]))
        figures[str(before)] = {"right": right, "tokens": round(tokens / len(cases))}
    return figures


def sampling_figures(model, tokenizer) -> dict:
    """What sampling does, and how sure the model is."""
    ask = asker(model, tokenizer)
    subjects = corpus.ENTRIES["subject"][corpus.FIRST_SUBJECTS :][:40]
    by_temperature = {}
    for temperature in (0.1, 0.7, 1.5):
        by_temperature[str(temperature)] = sampling(ask, subjects, temperature)
    nothing_cut = {}
    for temperature in (0.7, 1.5):
        nothing_cut[str(temperature)] = sampling(ask, subjects, temperature, **NOTHING_CUT)
    entropy = {}
    for kind in corpus.KINDS:
        turns = [turn for turn in some_of_each_kind(40) if turn.kind == kind]
        entropy[kind] = entropy_per_token(model, tokenizer, turns)
    smallest = {}
    for question in TYPICAL:
        smallest[question] = min(margins(model, tokenizer, question))
    return {
        "sampling": by_temperature,
        "sampling_nothing_cut": nothing_cut,
        "entropy": rounded(entropy),
        "margins": rounded(smallest),
    }


def most_missed(damage: Damage) -> tuple[int, int]:
    """The (layer, expert) whose silencing hurts one kind of text most beyond all other kinds."""

    def stands_out(expert: tuple[int, int]) -> float:
        most, next_most, *_ = sorted(damage[expert].values(), reverse=True)
        return most - next_most

    return max(damage, key=stands_out)


def mean_loss(model, tokenizer, turns: list[Turn]) -> float:
    """Mean loss (nats) per token of the answers of all kinds."""
    losses = answer_losses(model, tokenizer, turns)
    tokens: Counter = Counter()
    for turn in turns:
        tokens[turn.kind] += len(tokenizer.encode(turn.answer)) + 1
    total = sum(losses[kind] * tokens[kind] for kind in losses)
    return total / tokens.total()


def routing_figures(model, tokenizer) -> dict:
    """What the experts do, and what is lost without them."""
    turns = list(corpus.held_out_turns())
    counts = routing_counts(model, tokenizer, turns)
    experts = model.config.num_experts
    few = some_of_each_kind(FEW)
    intact = answer_losses(model, tokenizer, few)
    with changed_weights(model, only_best):
        top_1 = answer_losses(model, tokenizer, few)
    damage = silenced(model, tokenizer, few)
    layer, expert = most_missed(damage)
    loss = mean_loss(model, tokenizer, turns)
    return {
        "held_out_loss": round(loss, 4),
        "held_out_perplexity": round(math.exp(loss), 3),
        "information": [round(information(counter), 3) for counter in counts],
        "least_used": [round(least_used(counter, experts), 2) for counter in counts],
        "intact": rounded(intact),
        "top_1": rounded(added(top_1, intact)),
        "silenced": {
            "layer": layer,
            "expert": expert,
            "loss_added": rounded(damage[layer, expert]),
        },
    }


def add_results(folder: Path, figures: dict) -> None:
    """Add figures to the `training_results.json` in a folder."""
    file = folder / "training_results.json"
    results = json.loads(file.read_text(encoding="utf-8")) | figures
    text = json.dumps(results, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def measure(folder: Path) -> None:
    """Measure the model in a folder and add all figures to its `training_results.json`."""
    model, tokenizer = load(folder)
    figures = {"parameters": model.num_parameters(), "few": FEW}
    figures |= routing_figures(model, tokenizer)
    figures |= sampling_figures(model, tokenizer)
    figures |= answer_figures(model, tokenizer)
    add_results(folder, figures)


def steps_of(folder: Path) -> int:
    """How many steps the model in a folder was trained."""
    results = json.loads((folder / "training_results.json").read_text(encoding="utf-8"))
    return results["training"]["steps"]


def compare(folder: Path, with_reward: Path, without_reward: Path) -> None:
    """Add to the results of a model what the routing is with and without the reward for specialising.

    The other two folders are made by `train --stop-at N`, one of them with `--without-reward`.
    """
    steps = steps_of(with_reward)
    if steps_of(without_reward) != steps:
        raise CourseError(
            say(
                "{without} was trained {steps_without} steps and {with_reward} {steps}: compare runs of one "
                "length, made with the same --stop-at.",
                without=without_reward,
                steps_without=steps_of(without_reward),
                with_reward=with_reward,
                steps=steps,
            )
        )
    runs = {"steps": steps}
    turns = list(corpus.held_out_turns())
    for name, other in (("with", with_reward), ("without", without_reward)):
        model, tokenizer = load(other)
        counts = routing_counts(model, tokenizer, turns)
        runs[name] = [round(information(counter), 3) for counter in counts]
    add_results(folder, {"comparison": runs})


if __name__ == "__main__":
    parser = ArgumentParser(
        "python -m helpers.embedded_model.measure",
        say("Add the comparison of two short runs to the model card."),
    )
    parser.add_argument("with_reward", type=Path, help=say("folder of `train --stop-at N`"))
    parser.add_argument("without_reward", type=Path, help=say("folder of the same with --without-reward"))
    arguments = parser.parse_args()
    compare(EMBEDDED_MODEL, arguments.with_reward, arguments.without_reward)
    card.write(EMBEDDED_MODEL)
