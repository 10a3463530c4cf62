"""The files of the embedded model: layout, configuration, tokenizer, size."""

import json
import random
import re

import pytest
import torch
from safetensors import safe_open
from transformers import Qwen2MoeForCausalLM

from helpers import EMBEDDED_MODEL, CourseError
from helpers.embedded_model import card, corpus, train, two_runs

CARD = (EMBEDDED_MODEL / "README.md").read_text(encoding="utf-8")


def test_layout_is_the_one_of_the_hub(results):
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
    assert parameters == results["parameters"] <= 4_500_000
    assert f"{parameters:,} parameters" in CARD


def test_everything_fits_the_size_budget():
    files = [path for path in EMBEDDED_MODEL.rglob("*") if "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 9.5e6
    assert not list(EMBEDDED_MODEL.glob("checkpoint*"))


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
    assert config["shared_expert_intermediate_size"] == 4 * config["moe_intermediate_size"]
    assert config["num_experts"] >= 16
    assert 4 <= config["num_hidden_layers"] <= 6
    assert model.config.rope_parameters["rope_theta"] == 1e6
    assert model.config.max_position_embeddings >= 2048
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.bias is not None
    assert attention.k_proj.bias is not None
    assert attention.v_proj.bias is not None
    assert attention.o_proj.bias is None


def test_generation_config_is_the_real_models(model, tokenizer):
    end, text_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    expected = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    expected |= {"eos_token_id": [end, text_end], "pad_token_id": text_end, "bos_token_id": text_end}
    assert {key: getattr(model.generation_config, key) for key in expected} == expected
    assert model.config.vocab_size == len(tokenizer)
    assert (model.config.eos_token_id, model.config.bos_token_id) == (end, text_end)


def test_no_file_names_a_path_of_a_machine():
    for path in (*EMBEDDED_MODEL.glob("*.json"), *EMBEDDED_MODEL.glob("README*.md")):
        text = path.read_text(encoding="utf-8")
        assert "_name_or_path" not in text
        assert not re.search(r"/(tmp|home|root|opt|work|mnt)/(?!autodl)", text), path.name


@pytest.mark.parametrize(("language", "name"), [("en", "README.md"), ("zh", "README.zh.md")])
def test_the_card_is_made_from_the_results(results, language, name):
    assert card.text(results, language) == (EMBEDDED_MODEL / name).read_text(encoding="utf-8")


def test_the_chinese_card_has_no_english_word_in_its_tables(results):
    rows = [line for line in card.text(results, "zh").splitlines() if line.startswith("|")]
    questions = {f"“{question}”" for question in results["margins"]}
    also_chinese = "Python|top-1|top-p|top-k"  # Chinese texts write these like that too
    for cell in {cell.strip() for row in rows for cell in row.strip("|").split("|")} - questions:
        assert not re.search(r"[A-Za-z]{3,}", re.sub(also_chinese, "", cell, flags=re.IGNORECASE)), cell


def test_no_word_of_the_card_is_left_over(results):
    used = set()

    def word(english: str) -> str:
        used.add(english)
        return english

    run = two_runs.figures_of(results)
    card.sizes(word)
    card.measured(results, word)
    card.comparison({}, word)
    card.runs({}, word)
    card.runs(results | {"runs": [run]}, word)
    poor = run["held_out"] | {"Python functions": [0, 96]}
    card.runs(results | {"runs": [run | {"held_out": poor}]}, word)
    card.answers_table(results | {"held_out": poor}, word)
    assert set(corpus.read("card_words")) == used


def test_the_card_has_the_figures_of_two_runs_in_bold_where_they_are_not_enough(results):
    run = two_runs.figures_of(results)
    second = run | {"seed": 2, "held_out": run["held_out"] | {"Python functions": [50, 96]}}
    second["information"] = [0.3, 0.1, 0.1, 0.1]
    for language, seed in (("en", "Seed 2"), ("zh", "种子 2")):
        made = card.text(results | {"runs": [run, second]}, language)
        head, rows = made.split(f"| {seed} |\n")
        head = head.splitlines()[-1]
        assert head.count("|") == 3
        rows = rows.split("\n\n")[0].splitlines()[1:]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        assert len(cells) == len(card.FLOORS) + 5
        first_bold = [row[0] for row in cells if "**" in row[2]]
        second_bold = [row[0] for row in cells if "**" in row[3]]
        word = card.words_of(language)
        missed = {word("Python functions"), word("Information, second-best layer")}
        assert set(second_bold) == set(first_bold) | missed
        assert len(set(first_bold) & missed) == 0


def test_two_runs_have_two_seeds_and_one_length(results, tmp_path):
    shorter = results | {"training": results["training"] | {"seed": 2, "steps": 400}}
    second = results | {"training": results["training"] | {"seed": 2}}
    made = {"first": results, "shorter": shorter, "second": second}
    for name, content in made.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "training_results.json").write_text(json.dumps(content), encoding="utf-8")
    for other in ("first", "shorter"):
        with pytest.raises(CourseError, match="two seeds and one length"):
            two_runs.add_runs(tmp_path / "first", tmp_path / "first", tmp_path / other)
    two_runs.add_runs(tmp_path / "first", tmp_path / "first", tmp_path / "second")
    added = json.loads((tmp_path / "first" / "training_results.json").read_text(encoding="utf-8"))
    assert [run["seed"] for run in added["runs"]] == [results["training"]["seed"], 2]


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


def test_every_digit_is_a_token(tokenizer):
    assert [tokenizer.decode([token]) for token in tokenizer.encode("2048+17")] == list("2048+17")


def test_most_chinese_words_are_one_or_two_tokens(tokenizer):
    names = [subject["zh"]["names"][0] for subject in corpus.ENTRIES["subject"]]
    chinese = [name for name in names if re.fullmatch("[\u4e00-\u9fff]+", name)]
    assert len(chinese) > 30
    short = [name for name in chinese if len(tokenizer.encode(name)) <= 2]
    assert len(short) >= 0.9 * len(chinese)


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


def test_training_makes_the_shipped_tokenizer(tokenizer):
    trained = train.train_tokenizer()
    assert trained.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_training_sees_the_ids_of_the_chat_template(tokenizer):
    messages = corpus.conversation(random.Random(3))
    ids, labels, kinds = train.ChatEncoder(tokenizer)(messages)
    assert len(ids) == len(labels) == len(kinds)
    assert ids == tokenizer.apply_chat_template(messages)["input_ids"]
    learned = tokenizer.decode([label for label in labels if label >= 0])
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert learned == "".join(answer + "<|im_end|>" for answer in answers)


def test_rough_questions_are_the_same_text(tokenizer):
    encoder = train.ChatEncoder(tokenizer, rough=1.0)
    rng = random.Random(4)
    text = "What is a mixture of experts? 什么是混合专家？"
    pieces = encoder.question(text, rng)
    assert tokenizer.decode(pieces) == text
    assert len(pieces) > len(tokenizer.encode(text))
