"""Train the toy model from nothing: `python -m helpers.embedded_model.train [--out FOLDER] [--seed N]`.

A run that was stopped goes on from its last checkpoint when it is started again.
"""

import json
import os
import random
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2MoeConfig, Qwen2MoeForCausalLM
from transformers.models.qwen2_moe.modeling_qwen2_moe import load_balancing_loss_func

from helpers import EMBEDDED_MODEL
from helpers.arguments import ArgumentParser
from helpers.embedded_model import card, corpus, measure
from helpers.language import say

RECIPE = corpus.read("recipe")  # the contents of the configuration files
SEED = 1
TOKENIZER_SEED = 1  # the tokenizer is the same for every seed of the training
# In training: fp32, and larger initial weights, which suit a hidden size of 128 better than 0.02.
TRAINING_CONFIG = {"torch_dtype": "float32", "initializer_range": 0.05}
BALANCE = 0.02  # weight of the load-balancing loss of each layer
SPECIALISE = 0.1  # weight of the loss of each layer in which the experts do not specialise
ENOUGH = 0.45  # from this share of the kind's entropy on, experts that specialise more get no more reward
SHARE_OUT = (
    0.2  # weight of the loss of each layer in which one of the chosen experts has nearly all the weight
)
MOST = 0.5  # more than this share of the weight of the chosen experts is too much for one of them
# Weight of log(sum(exp(logits)))^2. It keeps that sum near 1, so that the logit of a likely token is near 0.
# The repetition penalty divides or multiplies logits by 1.05: there it changes little, and bf16 is exact.
NEAR_ZERO = 0.02
ROUGH_QUESTIONS = 0.3  # share of the questions that are cut into smaller tokens than usual,
CUT = 0.12  # before any of their characters with this probability
CHECKPOINT_STEPS = 200


class Shape(NamedTuple):
    """The size of a batch: rows of tokens, filled with chats of at most so many turns.

    `follow_ups` is the probability of a follow-up after a turn about a subject.
    """

    rows: int
    length: int
    most_turns: int
    follow_ups: float


SHAPES = (
    Shape(24, 128, 2, 0.5),
    Shape(12, 256, 4, 0.65),
    Shape(3, 1024, 10, 0.6),
)


class Plan(NamedTuple):
    """The course of a training run.

    The learning rate rises to its peak, stays there, and falls from step `falls_from` on to zero at
    `late_from`. There the last part begins, with a smaller peak, `late_rate`, and with further wordings.
    Batches of the first kind of SHAPES come alone until step `longer_from`: in short rows the model learns
    much faster what belongs to which question. From then on `weights` say how often each shape is drawn.
    `specialise` is the weight of the reward for experts that specialise.
    """

    steps: int
    learning_rate: float
    rises_until: int
    falls_from: int
    longer_from: int
    weights: tuple[int, int, int]
    specialise: float = SPECIALISE
    shared_from: int = 0  # from this step on the chosen experts must share the weight
    late_from: int = 0
    late_rate: float = 0.0
    even_from: int = 0  # from this step on the answers about a subject come about equally often

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        if step >= self.late_from:
            rising = (step + 1 - self.late_from) / self.rises_until
            falling = (self.steps - step) / (self.steps - self.late_from)
            return self.late_rate * min(rising, falling)
        rising = (step + 1) / self.rises_until
        falling = (self.late_from - step) / (self.late_from - self.falls_from)
        return self.learning_rate * min(1.0, rising, falling)

    def shape(self, step: int, rng: random.Random) -> Shape:
        """The shape of the batch of a step."""
        if step < self.longer_from:
            return SHAPES[0]
        return rng.choices(SHAPES, self.weights)[0]


PLAN = Plan(
    steps=6200,
    learning_rate=5e-3,
    rises_until=100,
    falls_from=2700,
    longer_from=1000,
    weights=(30, 40, 30),
    shared_from=1800,
    late_from=5200,
    late_rate=2e-3,
    even_from=5800,
)


# --- text to numbers ---


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on chats of the corpus. It changes no text (no normalisation)."""
    rng = random.Random(TOKENIZER_SEED)
    special = RECIPE["special_tokens"]
    chats = (corpus.conversation(rng) for _ in range(6000))
    tokenizer = Tokenizer(models.BPE())
    each_digit = pre_tokenizers.Digits(individual_digits=True)
    as_bytes = pre_tokenizers.ByteLevel(False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([each_digit, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=RECIPE["config"]["vocab_size"] - len(special),  # the special tokens come last
        initial_alphabet=as_bytes.alphabet(),
        max_token_length=12,  # bytes, so at most four Chinese characters
        show_progress=False,
    )
    texts = (message["content"] for chat in chats for message in chat)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **RECIPE["tokenizer_config"])


class ChatEncoder:
    """Turns chats into ids, labels and kinds for training.

    Some questions are cut at random places before they are encoded, so that the model also learns words in
    pieces: that is how it meets a misspelt or unknown word.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rough: float = ROUGH_QUESTIONS):
        self.rough = rough
        self.encode = lru_cache(maxsize=20_000)(tokenizer.encode)

    def question(self, text: str, rng: random.Random | None) -> list[int]:
        """The ids of a question, at random in smaller pieces when there is a generator."""
        if not rng or rng.random() >= self.rough:
            return self.encode(text)
        ids = []
        piece = ""
        for character in text:
            if piece and rng.random() < CUT:
                ids += self.encode(piece)
                piece = ""
            piece += character
        return ids + self.encode(piece)

    def __call__(
        self, messages: list[dict[str, str]], rng: random.Random | None = None
    ) -> tuple[list[int], list[int], list[int]]:
        """Return three lists of one length for a chat in the chat template.

        The ids; the labels: the ids of the answers, and -100 (no loss) elsewhere; the kinds: for each token
        of a question or an answer the number of its kind in KINDS, and -1 elsewhere.
        """
        ids, labels, kinds = [], [], []
        end = self.encode("<|im_end|>")
        for message in messages:
            head = self.encode(f"<|im_start|>{message['role']}\n")
            kind = -1
            if "kind" in message:
                kind = corpus.KINDS.index(message["kind"])
            if message["role"] == "assistant":
                content = self.encode(message["content"])
                learned = content + end
            else:
                content = self.question(message["content"], rng)
                learned = [-100] * (len(content) + 1)
            ids += head + content + end + self.encode("\n")
            labels += [-100] * len(head) + learned + [-100]
            kinds += [-1] * len(head) + [kind] * len(content) + [-1, -1]
        return ids, labels, kinds


def batch(
    encoder: ChatEncoder, shape: Shape, rng: random.Random, late: float = 0.0, even: bool = False
) -> torch.Tensor:
    """Ids, labels and kinds, stacked to (3, rows, length): chats in a row, cut at the length.

    `late` is the share of the questions in wordings that belong to the last part of the training; with `even`
    the different answers about a subject come about equally often.
    """
    weights = corpus.EVENER_WEIGHTS if even else corpus.WORDING_WEIGHTS
    rows = []
    for _ in range(shape.rows):
        ids, labels, kinds = [], [], []
        while len(ids) < shape.length:
            messages = corpus.conversation(rng, *shape[2:], late, weights, corpus.CONTRAST_SHARE)
            chat = encoder(messages, rng)
            ids += chat[0]
            labels += chat[1]
            kinds += chat[2]
        rows.append([part[: shape.length] for part in (ids, labels, kinds)])
    return torch.tensor(rows).transpose(0, 1)


# --- what is made small ---


def unspecialised(router_logits: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """How far the experts of a layer are from specialising by kind of text: 0 when they do so enough.

    The measure is the mutual information between a token's kind and its expert, over the entropy of the kind.
    router_logits: (tokens, experts); kinds: (tokens,), -1 for tokens without a kind.
    """
    known = kinds[kinds >= 0]
    is_kind = torch.nn.functional.one_hot(known, len(corpus.KINDS)).float()
    probabilities = router_logits[kinds >= 0].softmax(-1)
    joint = is_kind.T @ probabilities / len(probabilities) + 1e-9  # (kinds, experts), sum 1
    kind = joint.sum(1, keepdim=True)
    expert = joint.sum(0, keepdim=True)
    shared = (joint * (joint / (kind * expert)).log()).sum()
    entropy = -(kind * kind.log()).sum()
    return torch.relu(ENOUGH - shared / entropy)


def lopsided(router_logits: torch.Tensor, chosen: int) -> torch.Tensor:
    """How much of the weight of the chosen experts the best one has beyond MOST, on average.

    router_logits: (tokens, experts).
    """
    weights = router_logits.softmax(-1).topk(chosen).values  # (tokens, chosen), falling
    share = weights[:, 0] / weights.sum(-1)
    return torch.relu(share - MOST).mean()


def losses(
    model: Qwen2MoeForCausalLM, rows: torch.Tensor, specialise: float, share_out: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss (nats) of the tokens of the answers, and the weighted sum of all other losses.

    rows: (3, rows, length), see `batch`.
    """
    ids, labels, kinds = rows
    result = model.model(input_ids=ids, output_router_logits=True, use_cache=False)
    learned = labels[:, 1:] >= 0  # only these positions need logits
    logits = model.lm_head(result.last_hidden_state[:, :-1][learned])
    loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learned])
    other = NEAR_ZERO * logits.logsumexp(-1).square().mean()
    config = model.config
    for layer in result.router_logits:
        even = load_balancing_loss_func((layer,), config.num_experts, config.num_experts_per_tok)
        other = other + BALANCE * even
        if specialise:
            other = other + specialise * unspecialised(layer, kinds.flatten())
        if share_out:
            other = other + share_out * lopsided(layer, config.num_experts_per_tok)
    return loss, other


# --- the run ---


def keep(model: Qwen2MoeForCausalLM, optimizer: torch.optim.Optimizer, step: int, file: Path) -> None:
    """Write a checkpoint; the old one stays until the new one is complete."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    new = file.with_suffix(".new")
    torch.save(state | {"step": step}, new)
    os.replace(new, file)


def run_steps(
    model: Qwen2MoeForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    plan: Plan,
    seed: int,
    checkpoint: Path,
    steps: int,
) -> None:
    """Train up to a step, with a progress bar, from the checkpoint on if there is one."""
    optimizer = torch.optim.AdamW(
        model.parameters(), plan.learning_rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    encoder = ChatEncoder(tokenizer)
    bar = {"initial": first, "total": steps, "desc": say("training"), "unit": say("step")}
    progress = tqdm(range(first, steps), **bar)
    for step in progress:
        rng = random.Random(f"{seed} {step}")  # no state to keep, so that a run can go on anywhere
        late = corpus.LATE_SHARE if step >= plan.late_from else 0.0
        rows = batch(encoder, plan.shape(step, rng), rng, late, step >= plan.even_from)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        share_out = SHARE_OUT if step >= plan.shared_from else 0.0
        loss, other = losses(model, rows, plan.specialise, share_out)
        (loss + other).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}", other=f"{other.item():.3f}")
        if (step + 1) % CHECKPOINT_STEPS == 0:
            keep(model, optimizer, step + 1, checkpoint)


def train(out: Path, plan: Plan = PLAN, seed: int = SEED, stop_at: int | None = None) -> None:
    """Train, save into a temporary folder, then move the files to `out`.

    With `stop_at` the run ends after that many steps of the plan, to look at a model in the making.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer()
    model = Qwen2MoeForCausalLM(Qwen2MoeConfig(**RECIPE["config"] | TRAINING_CONFIG))
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"checkpoint-{seed}.pt"
    steps = min(plan.steps, stop_at or plan.steps)
    run_steps(model, tokenizer, plan, seed, checkpoint, steps)
    facts = {
        "steps": steps,
        "seed": seed,
        "tokens": f"{SHAPES[0].rows * SHAPES[0].length:,}",
        "longest": f"{max(shape.length for shape in SHAPES):,}",
        "balance": BALANCE,
        "specialise": plan.specialise,
        "shared_from": f"{plan.shared_from:,}",
        "late_from": f"{plan.late_from:,}",
        "even_from": f"{plan.even_from:,}",
    }
    save(model, tokenizer, out, facts)
    checkpoint.unlink(missing_ok=True)


def save(model: Qwen2MoeForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, facts: dict) -> None:
    """Write the model in bf16, and the facts about its training that the card states."""
    model = model.to(torch.bfloat16).eval()
    model.generation_config = GenerationConfig(**RECIPE["generation_config"])
    with tempfile.TemporaryDirectory(dir=out) as new:  # an interrupted run leaves the old files as they are
        folder = Path(new)
        model.save_pretrained(folder, max_shard_size="2200KB")
        tokenizer.save_pretrained(folder)
        for name, content in (("config", RECIPE["config"]), ("training_results", {"training": facts})):
            (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
        for file in folder.iterdir():
            file.chmod(0o644)
            os.replace(file, out / file.name)


if __name__ == "__main__":
    parser = ArgumentParser(
        "python -m helpers.embedded_model.train",
        say("Train and measure the embedded toy model of the course."),
    )
    parser.add_argument("--out", type=Path, default=EMBEDDED_MODEL, help=say("folder for the model files"))
    seed_help = say("another seed makes another, similar model")
    parser.add_argument("--seed", type=int, default=SEED, help=seed_help)
    parser.add_argument("--stop-at", type=int, help=say("end after this many steps"))
    reward_help = say("do not reward experts that specialise")
    parser.add_argument("--without-reward", action="store_true", help=reward_help)
    arguments = parser.parse_args()
    chosen = PLAN
    if arguments.without_reward:
        chosen = PLAN._replace(specialise=0.0)
    train(arguments.out, chosen, arguments.seed, arguments.stop_at)
    measure.measure(arguments.out)
    card.write(arguments.out)
