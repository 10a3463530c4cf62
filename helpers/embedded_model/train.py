"""Train the toy model from nothing: `python -m helpers.embedded_model.train [--out FOLDER]`."""

import argparse
import json
import math
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2MoeConfig, Qwen2MoeForCausalLM
from transformers.models.qwen2_moe.modeling_qwen2_moe import load_balancing_loss_func

from helpers import EMBEDDED_MODEL
from helpers.embedded_model import corpus

RECIPE = corpus.read("recipe")  # the contents of the configuration files
SEED = 1
# In training: fp32, and larger initial weights, which suit a hidden size of 128 better than 0.02.
TRAINING_CONFIG = {"torch_dtype": "float32", "initializer_range": 0.08}
BALANCE = 0.02  # weight of the load-balancing loss of each layer
SPECIALISE = (
    0.2  # weight, in the second phase, of the loss of each layer in which the experts do not specialise
)
ENOUGH = 0.35  # from this share of the kind's entropy on, experts that specialise more get no more reward


class Phase(NamedTuple):
    """A part of the training. `stages`: share of its steps, rows of a batch, tokens of a row."""

    steps: int
    learning_rate: float  # the highest; it rises and falls within the phase
    stages: tuple[tuple[float, int, int], ...]
    specialise: float


# First the answers: what belongs to which question is learned much faster in short rows. Then the experts.
PHASES = (
    Phase(2000, 3e-3, ((0.6, 22, 96), (0.25, 8, 256), (0.15, 2, 1024)), 0.0),
    Phase(600, 1.5e-3, ((0.4, 22, 96), (0.4, 8, 256), (0.2, 2, 1024)), SPECIALISE),
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on chats of the corpus. It changes no text (no normalisation)."""
    rng, special = random.Random(SEED), RECIPE["special_tokens"]
    chats = (corpus.conversation(rng) for _ in range(4000))
    tokenizer = Tokenizer(models.BPE())
    each_digit, as_bytes = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([each_digit, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=RECIPE["config"]["vocab_size"] - len(special),  # the special tokens come last
        initial_alphabet=as_bytes.alphabet(),
        max_token_length=12,  # bytes, so at most four Chinese characters
        show_progress=False,
    )
    tokenizer.train_from_iterator((message["content"] for chat in chats for message in chat), trainer)
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **RECIPE["tokenizer_config"])


def encode(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> list[list[int]]:
    """Return three lists of one length for a chat in the chat template.

    The ids; the labels: the ids of the answers, and -100 (no loss) elsewhere; the kinds: for each token of a
    question or an answer the number of its kind in KINDS, and -1 elsewhere.
    """
    ids, labels, kinds = [], [], []
    for message in messages:
        head = tokenizer.encode(f"<|im_start|>{message['role']}\n")
        content = tokenizer.encode(message["content"] + "<|im_end|>")
        kind = corpus.KINDS.index(message["kind"]) if "kind" in message else -1
        ids += head + content + tokenizer.encode("\n")
        learned = content if message["role"] == "assistant" else [-100] * len(content)
        labels += [-100] * len(head) + learned + [-100]
        kinds += [-1] * len(head) + [kind] * (len(content) - 1) + [-1, -1]
    return [ids, labels, kinds]


def batches(tokenizer: PreTrainedTokenizerFast, phase: Phase) -> Iterator[torch.Tensor]:
    """Yield ids, labels and kinds, stacked to (3, rows, length): chats in a row, cut at the length."""
    rng = random.Random(f"{SEED} {phase.steps}")
    sizes = [
        (rows, length) for share, rows, length in phase.stages for _ in range(round(share * phase.steps))
    ]
    for rows, length in sizes[: phase.steps]:
        batch: list[list[list[int]]] = [[[], [], []] for _ in range(rows)]
        for row in batch:
            while len(row[0]) < length:
                chat = encode(tokenizer, corpus.conversation(rng))
                row[:] = [old + new for old, new in zip(row, chat, strict=True)]
        yield torch.tensor([[row[part][:length] for row in batch] for part in range(3)])


def unspecialised(router_logits: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """How far the experts of a layer are from specialising by kind of text: 0 when they do so enough.

    The measure is the mutual information between a token's kind and its expert, over the entropy of the kind.
    router_logits: (tokens, experts); kinds: (tokens,), -1 for tokens without a kind.
    """
    is_kind = torch.nn.functional.one_hot(kinds[kinds >= 0], len(corpus.KINDS)).float()
    probabilities = router_logits[kinds >= 0].softmax(-1)
    joint = is_kind.T @ probabilities / len(probabilities) + 1e-9  # (kinds, experts), sum 1
    kind, expert = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    information = (joint * (joint / (kind * expert)).log()).sum() / -(kind * kind.log()).sum()
    return torch.relu(ENOUGH - information)


@torch.no_grad()
def held_out_loss(model: Qwen2MoeForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean cross-entropy (nats) per token of the held-out answers, `<|im_end|>` included."""
    total = count = 0
    for turn in corpus.held_out_turns():
        texts = {"system": "You are a helpful assistant.", "user": turn.question, "assistant": turn.answer}
        rows = encode(tokenizer, [{"role": role, "content": text} for role, text in texts.items()])
        ids, labels, _ = (torch.tensor([row]) for row in rows)
        tokens = int((labels >= 0).sum())
        total += model(input_ids=ids, labels=labels).loss.item() * tokens
        count += tokens
    return total / count


def train_phase(model: Qwen2MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, phase: Phase) -> None:
    """Train for one phase, with a progress bar."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, phase.learning_rate, max(phase.steps, 2), pct_start=0.05
    )
    progress = tqdm(batches(tokenizer, phase), total=phase.steps, desc="training", unit="step")
    for ids, labels, kinds in progress:
        result = model.model(input_ids=ids, output_router_logits=True)
        learned = labels[:, 1:] >= 0  # only these positions need logits
        logits = model.lm_head(result.last_hidden_state[:, :-1][learned])
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learned])
        routing = torch.zeros(())
        for layer in result.router_logits:
            routing = routing + BALANCE * load_balancing_loss_func((layer,), 16, 4)
            if phase.specialise:
                routing = routing + phase.specialise * unspecialised(layer, kinds.flatten())
        (loss + routing).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}", routing=f"{routing.item():.3f}")


def train(out: Path, phases: tuple[Phase, ...] = PHASES) -> dict[str, float]:
    """Train, save into a temporary folder, then move the files to `out`. Returns what the card states."""
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer()
    model = Qwen2MoeForCausalLM(Qwen2MoeConfig(**RECIPE["config"] | TRAINING_CONFIG))
    for phase in phases:
        train_phase(model, tokenizer, phase)
    return save(model, tokenizer, out, sum(phase.steps for phase in phases))


def save(model: Qwen2MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, steps: int) -> dict:
    """Write the model in bf16, with its held-out loss (nats per token)."""
    model = model.to(torch.bfloat16).eval()  # what is measured is what is shipped
    loss = held_out_loss(model, tokenizer)
    results = {"steps": steps, "parameters": model.num_parameters(), "held_out_loss": round(loss, 4)}
    results["held_out_perplexity"] = round(math.exp(loss), 3)
    model.generation_config = GenerationConfig(**RECIPE["generation_config"])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:  # an interrupted run leaves the old files as they are
        folder = Path(name)
        model.save_pretrained(folder, max_shard_size="1300KB")
        tokenizer.save_pretrained(folder)
        for file, content in (("config", RECIPE["config"]), ("training_results", results)):
            (folder / f"{file}.json").write_text(json.dumps(content, indent=2) + "\n")
        for file in folder.iterdir():
            file.chmod(0o644)
            os.replace(file, out / file.name)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the embedded toy model of the course.")
    parser.add_argument("--out", type=Path, default=EMBEDDED_MODEL, help="folder for the model files")
    print(train(parser.parse_args().out))
