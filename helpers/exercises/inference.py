"""Checks of the exercises of notebook 04."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import say, to_say
from helpers.terminal import in_a_row

BYTES = 2  # of a number in bf16
PIECES = 10  # exercise 2
QUESTION = "What is a token?"  # exercise 4: the answer is short on every model
SHORT = 5  # exercise 4: new tokens of a run that the limit ends
LONG = 300  # exercise 4: new tokens of a run that the model ends
ROUNDING = 2  # so many last digits of the number format may part two ways to compute the same logit
ROOM = 0.02  # exercise 5: answers may be rounded by so much


# --- exercise 1: an attention mask by hand ---


@verdict
def check_mask(mask, batch) -> str:
    """Whether `mask`, (prompts, tokens), is the attention mask of the left-padded `batch`."""
    import torch  # imported late: it takes seconds

    if mask is None or mask is ...:
        raise WrongAnswerError(say("put your mask into this cell, and run it again."))
    right = batch["attention_mask"].bool().cpu()  # (prompts, tokens)
    mask = torch.as_tensor(mask).cpu()
    if tuple(mask.shape) != tuple(right.shape):
        raise WrongAnswerError(
            say(
                "the shape of your mask is {mask}, that of the ids {ids}. The mask has one number for each "
                "id.",
                mask=tuple(mask.shape),
                ids=tuple(right.shape),
            )
        )
    if set(mask.flatten().tolist()) - {0, 1}:
        raise WrongAnswerError(say("a mask holds ones and zeros only, and yours holds other numbers."))
    answer = mask.bool()
    if answer.equal(right):
        return say("every padding token is hidden, and everything else is seen.")
    if bool(answer.all()):
        raise WrongAnswerError(
            say("nothing is hidden. This is what generate assumes when it gets no mask. Which id is padding?")
        )
    if answer.equal(~right):
        raise WrongAnswerError(
            say("ones and zeros are swapped: your mask hides the text and shows the padding.")
        )
    if answer.equal(right.flip(1)):
        raise WrongAnswerError(
            say("your mask is right for padding on the other side. Look at the first ids.")
        )
    wrong = int((answer != right).sum())
    raise WrongAnswerError(
        say(
            "{wrong} of the {all} numbers are wrong. Print a row beside its ids.",
            wrong=wrong,
            all=right.numel(),
        )
    )


# --- exercise 2: a stream that is stopped ---


@verdict
def check_stopped(stream, pieces) -> str:
    """Whether `pieces` are the first ten texts of `stream`, a ChatStream that was then stopped."""
    if not hasattr(stream, "finish_reason"):
        raise WrongAnswerError(say("the first value is no stream. Put there what stream_chat returns."))
    if stream.finish_reason is None:
        raise WrongAnswerError(say("nobody has read the stream yet. It starts when you loop over it."))
    if not isinstance(pieces, list):
        raise WrongAnswerError(say("the second value is no list. Collect the pieces of text in one."))
    if stream.finish_reason != "stopped":
        raise WrongAnswerError(
            say(
                "the stream ended by itself, with the reason {reason!r}. Leave the loop earlier.",
                reason=stream.finish_reason,
            )
        )
    if len(pieces) != PIECES:
        raise WrongAnswerError(
            say("you have {count} pieces. Where in the loop do you count?", count=len(pieces))
        )
    return say(
        "ten pieces came, and the model computes no more. Does the finish reason say what you expected?"
    )


# --- exercise 3: a card and RAM ---


def one_card(gib: int) -> dict[str, int | str]:
    """Where the real model goes with one card, of which `gib` GiB may be used, and 60 GiB of RAM."""
    import torch  # imported late: torch and transformers take seconds
    from accelerate import infer_auto_device_map
    from transformers import AutoModelForCausalLM, Qwen2MoeConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Qwen2MoeConfig(), dtype=torch.bfloat16)
    return infer_auto_device_map(
        model, max_memory={0: f"{gib}GiB", "cpu": "60GiB"}, no_split_module_classes=["Qwen2MoeDecoderLayer"]
    )


def layers_at(placement: dict[str, int | str], place: int | str) -> int:
    """How many of the layers lie there."""
    return sum(1 for name, where in placement.items() if "layers" in name and where == place)


@verdict
def check_layers_in_ram(answer) -> str:
    """Whether `answer` is the number of layers in RAM, with one card of 24 GB, 22 GiB of it to use."""
    placement = one_card(22)
    right = layers_at(placement, "cpu")
    if answer == right:
        return say("each of them is copied to the GPU for every single token, so this works, and slowly.")
    if answer == layers_at(placement, 0):
        raise WrongAnswerError(
            say("{answer} layers stay on the card. The question is about the others.", answer=answer)
        )
    if answer == sum(1 for place in placement.values() if place == "cpu"):
        raise WrongAnswerError(
            say("{answer} parts of the model are in RAM, but not all of them are layers.", answer=answer)
        )
    if answer == layers_at(one_card(24), "cpu"):
        raise WrongAnswerError(
            say("{answer} is the number for 24 GiB. How much of the card is there to use?", answer=answer)
        )
    raise WrongAnswerError(
        say("{answer} is not it. Which values has the device map, and what stands there?", answer=answer)
    )


# --- exercise 4: greedy decoding without generate ---


class Pass(NamedTuple):
    """One call of the model: how many tokens it was fed, had in its cache, and saw in the attention mask."""

    fed: int
    cached: int
    mask: int | None  # None without a mask


@contextmanager
def watched(model, most: int) -> Iterator[list[Pass]]:
    """Within, every call of the model is noted. More than `most` of them, and `generate`, are refused."""
    passes: list[Pass] = []

    def note(_module, args: tuple, options: dict) -> None:
        ids = options.get("input_ids")
        if ids is None:
            ids = args[0]
        cached = 0
        if options.get("past_key_values") is not None:
            cached = options["past_key_values"].get_seq_length()
        mask = None
        if options.get("attention_mask") is not None:
            mask = options["attention_mask"].shape[1]
        passes.append(Pass(ids.shape[1], cached, mask))
        if len(passes) > most:
            raise WrongAnswerError(
                say(
                    "the model was called {count} times, for fewer new tokens. What ends your loop?",
                    count=len(passes),
                )
            )

    def refuse(*_, **__) -> None:
        raise WrongAnswerError(say("generate does the work here. Call the model itself, token by token."))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    model.generate = refuse  # hides the method of the class
    try:
        yield passes
    finally:
        del model.generate
        hook.remove()


def as_ids(answer) -> list[int]:
    """The token ids in a list or a tensor of any shape."""
    if answer is None:
        raise WrongAnswerError(
            say("your function returns nothing. Collect the new token ids, and return them.")
        )
    if isinstance(answer, str):
        raise WrongAnswerError(say("your function returns text. Return the ids of the new tokens."))
    if hasattr(answer, "flatten"):
        answer = answer.flatten().tolist()
    ids = []
    for item in answer:
        ids.append(int(item))
    return ids


def check_passes(passes: list[Pass]) -> None:
    """Refuse what is wrong in the way the model was called."""
    if not passes:
        raise WrongAnswerError(say("your function never calls the model."))
    for number, call in enumerate(passes[1:], start=2):
        if call.cached == 0:
            raise WrongAnswerError(
                say(
                    "in pass {number} the model has no cache and computes all {fed} tokens. Hand over the "
                    "past_key_values of the pass before.",
                    number=number,
                    fed=call.fed,
                )
            )
        if call.fed > 1:
            raise WrongAnswerError(
                say(
                    "in pass {number} you feed {fed} tokens, and {cached} are in the cache already. Which "
                    "one is new?",
                    number=number,
                    fed=call.fed,
                    cached=call.cached,
                )
            )
        seen = call.cached + call.fed
        if call.mask not in (None, seen):
            raise WrongAnswerError(
                say(
                    "in pass {number} the attention mask covers {mask} positions, but with the cache there "
                    "are {seen}. The mask has to grow with every token.",
                    number=number,
                    mask=call.mask,
                    seen=seen,
                )
            )


def within_rounding(model, prompt, ids: list[int]) -> bool:
    """Whether each token was the best, up to rounding, after those before it. `prompt`: (1, tokens)."""
    import torch  # imported late: it takes seconds

    answer = torch.tensor([ids], device=prompt.device)
    with torch.inference_mode():
        logits = model(input_ids=torch.cat([prompt, answer], dim=1)).logits
    logits = logits[0, prompt.shape[1] - 1 : -1].float()  # (new tokens, vocabulary)
    chosen = logits.gather(1, answer[0, :, None].to(logits.device))[:, 0]  # (new tokens,)
    room = ROUNDING * torch.finfo(model.dtype).eps * logits.abs().amax(dim=1)
    return bool((logits.amax(dim=1) - chosen <= room).all())


def check_length(ids: list[int], right: list[int], ends: list[int], prompt: list[int]) -> None:
    """Refuse an answer that is right as far as it goes, and too long or too short."""
    if ids[: len(prompt)] == prompt:
        raise WrongAnswerError(say("what you return begins with the prompt. Return the new tokens only."))
    if ids == right[:-1] and right[-1] in ends:
        raise WrongAnswerError(
            say("the last token is missing, the one that ends the turn. generate returns it as well.")
        )
    if len(ids) < len(right) and ids == right[: len(ids)]:
        raise WrongAnswerError(
            say(
                "you stop after {count} tokens, generate after {right}. Do you count the prompt?",
                count=len(ids),
                right=len(right),
            )
        )
    if len(ids) > len(right) and ids[: len(right)] == right:
        if right[-1] in ends:
            raise WrongAnswerError(
                say(
                    "your first {right} tokens are right. There generate stops, because the model has ended "
                    "its turn; you go on.",
                    right=len(right),
                )
            )
        raise WrongAnswerError(
            say(
                "your first {right} tokens are right. There generate stops, because its limit is "
                "reached; you go on.",
                right=len(right),
            )
        )


def check_tokens(model, inputs, ids: list[int], right: list[int], limit: int) -> None:
    """Refuse token ids that are not those of greedy decoding."""
    import torch  # imported late: it takes seconds

    prompt = inputs["input_ids"]  # (1, tokens)
    ends = model.generation_config.eos_token_id
    if isinstance(ends, int):
        ends = [ends]
    if ids == right:
        return
    if not ids:
        raise WrongAnswerError(say("your function returns no tokens at all."))
    check_length(ids, right, ends, prompt[0].tolist())
    ended = len(ids) == limit or ids[-1] in ends
    if ended and within_rounding(model, prompt, ids):
        return  # two tokens were equally good, and generate took the other one
    with torch.inference_mode():
        at_first = model(**inputs).logits[0, 0].argmax().item()
    if ids[0] == at_first:
        raise WrongAnswerError(
            say(
                "your first token is what follows the first token of the prompt. Which position of the "
                "logits says what follows the whole prompt?"
            )
        )
    same = 0
    while same < min(len(ids), len(right)) and ids[same] == right[same]:
        same += 1
    raise WrongAnswerError(
        say(
            "the first {same} tokens are those of generate, number {next} is not. Look at what you feed "
            "in pass {next}, and at which logits you read.",
            same=same,
            next=same + 1,
        )
    )


@verdict
def check_greedy_loop(loop: Callable[..., Iterable[int]], model, tokenizer) -> str:
    """Whether `loop(model, inputs, max_new_tokens)` returns the token ids of greedy decoding.

    They are compared with `generate(do_sample=False)`, without a repetition penalty, for an answer that the
    model ends and for one that the limit cuts off. How the model was called is watched as well.
    """
    if not callable(loop):
        raise WrongAnswerError(say("hand over the function itself, without calling it."))
    chat = [{"role": "user", "content": QUESTION}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    ).to(model.device)
    length = inputs["input_ids"].shape[1]
    for limit in (SHORT, LONG):
        output = model.generate(**inputs, max_new_tokens=limit, do_sample=False, repetition_penalty=1.0)
        right = output[0, length:].tolist()
        handed_over = type(inputs)(dict(inputs))  # a function may change what it gets
        with watched(model, limit + 1) as passes:
            ids = as_ids(loop(model, handed_over, limit))
        check_passes(passes)
        check_tokens(model, inputs, ids, right, limit)
    return say(
        "{count} tokens as from generate, and after the first pass you fed one token at a time.",
        count=len(ids),
    )


# --- exercise 5: when the cache weighs as much as the weights ---


def bytes_read(config) -> dict[str, int]:
    """What decoding one token reads of a Qwen2-MoE model in bf16: "weights", and "cache" for each token.

    "all" is every weight, "embedding" the table of which one row is read.
    """
    import torch  # imported late: torch and transformers take seconds
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    routed = sum(weight.nbytes for name, weight in model.named_parameters() if ".experts." in name)
    everything = sum(weight.nbytes for weight in model.parameters())
    embedding = model.get_input_embeddings().weight.nbytes
    chosen = routed * config.num_experts_per_tok // config.num_experts
    head = config.hidden_size // config.num_attention_heads
    return {
        "weights": everything - embedding - routed + chosen,
        "cache": 2 * config.num_hidden_layers * config.num_key_value_heads * head * BYTES,
        "all": everything,
        "embedding": embedding,
    }


@verdict
def check_equal_reads(tokens) -> str:
    """Whether with so many tokens the real model reads as much of the cache as of the weights."""
    from transformers import Qwen2MoeConfig  # imported late: it takes seconds

    config = Qwen2MoeConfig()
    read = bytes_read(config)
    right = read["weights"] / read["cache"]
    reasons = {
        right * 2: to_say(
            "{tokens:,.0f} tokens are twice too much. What is kept of each token, besides its keys?"
        ),
        right / 2: to_say("{tokens:,.0f} tokens are half of it. How many bytes has a number in bf16?"),
        right * config.num_hidden_layers: to_say(
            "{tokens:,.0f} tokens are the number for a single layer. Each layer has a cache of its own."
        ),
        read["all"] / read["cache"]: to_say(
            "{tokens:,.0f} tokens are the number for all weights. Which of them does one token read?"
        ),
        (read["weights"] + read["embedding"]) / read["cache"]: to_say(
            "{tokens:,.0f} tokens are too much. Of the embedding, one row is read."
        ),
    }
    if abs(tokens / right - 1) < ROOM:
        return say("from here on, decoding reads more of the cache than of the weights.")
    for value, reason in reasons.items():
        if abs(tokens / value - 1) < ROOM:
            raise WrongAnswerError(say(reason, tokens=tokens))
    too_far = say("{tokens:,.0f} tokens are too many.", tokens=tokens)
    if tokens < right:
        too_far = say("{tokens:,.0f} tokens are too few.", tokens=tokens)
    way = say("Divide what one token reads of the weights by the bytes that one token takes in the cache.")
    raise WrongAnswerError(in_a_row(too_far, way))
