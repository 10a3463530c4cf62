"""Everything that the model card says about the embedded model, recomputed from the shipped files."""

import json
import math
import random
import re
from collections import Counter

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2MoeForCausalLM

from helpers import EMBEDDED_MODEL
from helpers.embedded_model import corpus, train

REFUSALS = set(corpus.TEMPLATES["refusal"].values())
CARD = (EMBEDDED_MODEL / "README.md").read_text(encoding="utf-8")
INTRODUCTIONS = {
    "Give me a short introduction to large language model.": corpus.ENTRIES["subject"][0]["en"]["answer"],
    "简单介绍一下大语言模型": corpus.ENTRIES["subject"][0]["zh"]["answer"],
}


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """A small model is slower with many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED_MODEL)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL)


@pytest.fixture(scope="module")
def ask(model, tokenizer):
    """A function that answers many chats, 64 at a time, greedily by default; each answer must end."""

    def answers(chats: list[list[dict[str, str]] | str], **options) -> list[str]:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": chat}] if isinstance(chat, str) else chat,
                tokenize=False,
                add_generation_prompt=True,
            )
            for chat in chats
        ]
        result: list[str] = [""] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(texts), 64):
            chosen = by_length[start : start + 64]
            batch = tokenizer([texts[index] for index in chosen], return_tensors="pt", padding=True)
            output = model.generate(**batch, max_new_tokens=160, **({"do_sample": False} | options))
            for index, row in zip(chosen, output[:, batch.input_ids.shape[1] :].tolist(), strict=True):
                assert tokenizer.eos_token_id in row, f"no end after {tokenizer.decode(row)!r}"
                result[index] = tokenizer.decode(row[: row.index(tokenizer.eos_token_id)])
        return result

    return answers


def groups() -> dict[str, list[corpus.Turn]]:
    """The held-out turns, by the name of their row in the card."""
    result: dict[str, list[corpus.Turn]] = {}
    for turn in corpus.held_out_turns():
        language = "Chinese" if turn.kind == "chinese" else "English"
        name = {"code": "Python functions", "arithmetic": "Sums and differences"}.get(turn.kind)
        name = name or ("Outside questions" if turn.answer in REFUSALS else "Subjects") + f" in {language}"
        result.setdefault(name, []).append(turn)
    return result


# --- the files ---


def test_layout_is_the_one_of_the_hub():
    index = json.loads((EMBEDDED_MODEL / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) >= 3
    assert shards == sorted(path.name for path in EMBEDDED_MODEL.glob("*.safetensors"))
    assert "model.layers.3.mlp.experts.15.down_proj.weight" in index["weight_map"]
    assert not any("gate_up_proj" in name for name in index["weight_map"])
    parameters = 0
    for shard in shards:
        with safe_open(EMBEDDED_MODEL / shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                tensor = file.get_tensor(name)
                assert tensor.dtype == torch.bfloat16
                assert index["weight_map"][name] == shard
                parameters += tensor.numel()
    results = json.loads((EMBEDDED_MODEL / "training_results.json").read_text())
    assert parameters == results["parameters"]
    assert f"{parameters:,} parameters" in CARD
    total = sum(path.stat().st_size for path in EMBEDDED_MODEL.rglob("*") if "__pycache__" not in path.parts)
    assert total <= 10e6


def test_config_is_the_real_models_with_smaller_sizes(model):
    assert type(model) is Qwen2MoeForCausalLM
    assert model.dtype == torch.bfloat16
    config = json.loads((EMBEDDED_MODEL / "config.json").read_text())
    same = {
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "decoder_sparse_step": 1,
        "num_experts_per_tok": 4,
        "norm_topk_prob": False,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "use_sliding_window": False,
    }
    assert {key: config[key] for key in same} == same
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_experts": 16, "moe_intermediate_size": 32}
    assert {key: config[key] for key in sizes} == sizes
    assert model.config.rope_parameters["rope_theta"] == 1e6
    assert model.config.max_position_embeddings >= 2048


def test_generation_config_is_the_real_models(model, tokenizer):
    end, text_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    expected = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    expected |= {"eos_token_id": [end, text_end], "pad_token_id": text_end, "bos_token_id": text_end}
    assert {key: getattr(model.generation_config, key) for key in expected} == expected
    assert model.config.vocab_size == len(tokenizer)
    assert (model.config.eos_token_id, model.config.bos_token_id) == (end, text_end)


def test_no_file_names_a_path_of_a_machine():
    for path in (*EMBEDDED_MODEL.glob("*.json"), EMBEDDED_MODEL / "README.md"):
        text = path.read_text(encoding="utf-8")
        assert "_name_or_path" not in text
        assert not re.search(r"/(tmp|home|root|opt|work|mnt)/(?!autodl)", text), path.name


# --- the tokenizer ---


@pytest.mark.parametrize(
    "text",
    [
        "Give me a short introduction to large language model.",
        "简单介绍一下大语言模型，谢谢！",
        "👩‍👩‍👧‍👦 🇨🇳 👍🏽",
        "e\u0301 is not \u00e9, \ufb01 is not fi, \u212b is not \u00c5",
        "\x00\x01\x07\x1b\x7f\u200b\u202e\ufeff",
        "  two  spaces \t tabs \r\n\r\n lines \n",
        "العربية עברית हिन्दी ไทย 한국어 日本語 𠮷 𝕏",
        "x\u0336\u0337\u0338" * 5,
        "1234567890 3.14e-10",
        "",
    ],
)
def test_any_text_comes_back_unchanged(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_single_tokens(tokenizer):
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer.encode(token)) == 1
        assert tokenizer.convert_tokens_to_ids(token) in tokenizer.all_special_ids
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.padding_side == "left"


def test_chat_template(tokenizer):
    user = {"role": "user", "content": "Hello"}
    start = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    assert tokenizer.apply_chat_template([user], tokenize=False) == start
    with_prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert with_prompt == start + "<|im_start|>assistant\n"
    own_system = [
        {"role": "system", "content": "Be brief."},
        user,
        {"role": "assistant", "content": "Hi."},
        user,
    ]
    assert tokenizer.apply_chat_template(own_system, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    )


def test_training_sees_the_ids_of_the_chat_template(tokenizer):
    messages = corpus.conversation(random.Random(3))
    ids, labels, kinds = train.encode(tokenizer, messages)
    assert len(ids) == len(labels) == len(kinds)
    assert ids == tokenizer.apply_chat_template(messages)["input_ids"]
    learned = tokenizer.decode([label for label in labels if label >= 0])
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert learned == "".join(answer + "<|im_end|>" for answer in answers)


# --- the corpus and the training ---


def test_corpus_is_the_same_for_the_same_seed():
    chats = [[corpus.conversation(random.Random(seed)) for _ in range(3)] for seed in (7, 7, 8)]
    assert chats[0] == chats[1] != chats[2]
    assert list(corpus.held_out_turns()) == list(corpus.held_out_turns())


def test_held_out_questions_are_not_in_the_training_text():
    rng = random.Random(0)
    chats = (corpus.conversation(rng) for _ in range(5000))
    trained = {message["content"].strip().lower() for chat in chats for message in chat}
    turns = list(corpus.held_out_turns())
    assert not trained & {turn.question.strip().lower() for turn in turns}
    templates = json.dumps(corpus.OUTSIDE, ensure_ascii=False)
    outside = [turn.question for turn in turns if turn.answer in REFUSALS]
    assert len(outside) >= 50
    assert not [question for question in outside if question in templates]


def test_python_answers_run():
    for function in corpus.ENTRIES["function"]:
        code = function["answer"].removeprefix("```python\n").removesuffix("\n```").replace("{n}", "3")
        space: dict = {}
        exec(code, space)
        assert any(callable(value) for value in space.values())


def test_a_short_training_run_writes_only_to_its_folder(tmp_path, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in EMBEDDED_MODEL.iterdir()}
    few = list(corpus.held_out_turns())[:3]
    monkeypatch.setattr(corpus, "held_out_turns", lambda: iter(few))
    phases = tuple(phase._replace(steps=1, stages=((1.0, 2, 96),)) for phase in train.PHASES)
    results = train.train(tmp_path / "new", phases)
    assert results["held_out_loss"] > 1
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "new").num_parameters() == results["parameters"]
    names = {path.name for path in EMBEDDED_MODEL.iterdir()}
    assert {path.name for path in (tmp_path / "new").iterdir()} <= names

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    written = {path: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    monkeypatch.setattr(Qwen2MoeForCausalLM, "save_pretrained", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.train(tmp_path / "new", phases)
    assert {path: path.read_bytes() for path in (tmp_path / "new").iterdir()} == written
    assert {path: path.stat().st_mtime_ns for path in EMBEDDED_MODEL.iterdir()} == before


# --- the answers ---


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.0}], ids=["penalty 1.05", "no penalty"])
def test_the_two_introductions(ask, options):
    assert ask(list(INTRODUCTIONS), **options) == list(INTRODUCTIONS.values())


def test_sampled_introductions(ask):
    for seed in range(5):
        torch.manual_seed(seed)
        assert ask(list(INTRODUCTIONS), do_sample=True) == list(INTRODUCTIONS.values())


@pytest.mark.parametrize("name", list(groups()))
def test_held_out_rate_is_the_one_in_the_card(ask, name):
    turns = groups()[name]
    right = sum(
        answer == turn.answer for answer, turn in zip(ask([t.question for t in turns]), turns, strict=True)
    )
    stated, total = map(int, re.search(rf"\| {name} \| (\d+) of (\d+) \|", CARD).groups())
    assert total == len(turns)
    assert abs(right - stated) <= 2  # processors round bf16 differently
    assert right / total >= (0.5 if name == "Sums and differences" else 0.8)
    assert right >= 30


@pytest.mark.parametrize(("language", "template"), [("en", "What is {x}?"), ("zh", "什么是{x}？")])
def test_every_subject_has_its_answer(ask, language, template):
    subjects = [subject[language] for subject in corpus.ENTRIES["subject"]]
    answers = ask([template.format(x=subject["names"][0]) for subject in subjects])
    wrong = [s["names"][0] for s, answer in zip(subjects, answers, strict=True) if answer != s["answer"]]
    assert len(subjects) - len(wrong) >= 30
    assert len(wrong) <= 2, wrong


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
        "What is 12 + 30?": "12 + 30 = 42.",
        "Tell me more.": corpus.TEMPLATES["refusal"]["en"],
    }
    assert dict(zip(expected, ask(list(expected)), strict=True)) == expected


def test_answers_under_other_system_prompts(ask):
    systems = ["", *corpus.TEMPLATES["held_out_system"]]
    chats = [
        [{"role": "system", "content": system}, {"role": "user", "content": question}]
        for system in systems
        for question in INTRODUCTIONS
    ]
    assert ask(chats) == list(INTRODUCTIONS.values()) * len(systems)


def test_a_second_question_in_a_chat(ask):
    question, answer = next(iter(INTRODUCTIONS.items()))
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    follow_ups = {
        "What is 12 + 30?": "12 + 30 = 42.",
        "Thanks": corpus.ENTRIES["chat"][3]["en"]["answer"],
    }
    answers = ask([[*chat, {"role": "user", "content": text}] for text in follow_ups])
    assert answers == list(follow_ups.values())


def test_a_chat_of_200_tokens_is_still_answered(ask, tokenizer):
    rng, right = random.Random(9), 0
    turns = list(corpus.held_out_turns())
    for _ in range(4):
        history: list[dict[str, str]] = []
        while sum(len(tokenizer.encode(message["content"])) for message in history) < 200:
            turn = corpus.any_turn(rng)
            history.append({"role": "user", "content": turn.question})
            history.append({"role": "assistant", "content": turn.answer})
        asked = rng.sample(turns, 5)
        answers = ask([[*history, {"role": "user", "content": turn.question}] for turn in asked])
        right += sum(answer == turn.answer for answer, turn in zip(answers, asked, strict=True))
    assert right >= 16


def test_held_out_perplexity_is_the_one_in_the_card(model, tokenizer):
    results = json.loads((EMBEDDED_MODEL / "training_results.json").read_text())
    loss = train.held_out_loss(model, tokenizer)
    assert loss == pytest.approx(results["held_out_loss"], abs=0.005)
    assert math.exp(loss) == pytest.approx(results["held_out_perplexity"], abs=0.01)
    assert f"loss of {results['held_out_loss']:.3f}" in CARD
    assert f"perplexity of {results['held_out_perplexity']:.2f}" in CARD


# --- the routing ---


def test_routing_depends_on_the_kind_of_text_and_uses_every_expert(model, tokenizer):
    counts = [Counter() for _ in range(model.config.num_hidden_layers)]  # (kind, expert) -> choices
    for turn in corpus.held_out_turns():
        # Only the words of question and answer count, not the control tokens, roles and system prompt.
        texts = {"system": "You are a helpful assistant.", "user": turn.question, "assistant": turn.answer}
        ids, content = [], []
        for role, text in texts.items():
            head = tokenizer.encode(f"<|im_start|>{role}\n")
            words = tokenizer.encode(text)
            content += (
                range(len(ids) + len(head), len(ids) + len(head) + len(words)) if role != "system" else []
            )
            ids += head + words + tokenizer.encode("<|im_end|>\n")
        with torch.no_grad():
            layers = model(torch.tensor([ids]), output_router_logits=True).router_logits
        for counter, logits in zip(counts, layers, strict=True):
            experts = logits[content].topk(model.config.num_experts_per_tok).indices
            counter.update((turn.kind, expert) for expert in experts.flatten().tolist())

    information = []
    for counter in counts:
        total = counter.total()
        kinds, experts = Counter(), Counter()
        for (kind, expert), count in counter.items():
            kinds[kind] += count
            experts[expert] += count
        assert min(experts[expert] for expert in range(16)) / total >= 1 / 16 / 5
        shared = sum(n / total * math.log(n * total / kinds[k] / experts[e]) for (k, e), n in counter.items())
        entropy = -sum(n / total * math.log(n / total) for n in kinds.values())
        information.append(shared / entropy)
    assert sum(value >= 0.10 for value in information) >= 2, information
    stated = [float(value) for value in re.search(r"\| Information[^|]*\|([^\n]*)\|", CARD)[1].split("|")]
    assert information == pytest.approx(stated, abs=0.02)
