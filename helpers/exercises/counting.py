"""The parameters of Mixtral 8x7B, part by part, and the mistakes that people make when they count them.

Source of the sizes: config.json of mistralai/Mixtral-8x7B-v0.1. A token's numbers are 4096, of which each of
the 32 heads of the queries takes 128; keys and values have 8 heads (grouped-query attention).
"""

from typing import NamedTuple

from helpers.language import to_say

HIDDEN = 4096
HEAD = HIDDEN // 32
KEY_VALUE_WIDTH = 8 * HEAD
EXPERT_MATRIX = HIDDEN * 14336
VOCABULARY = 32000

#: What the count is made of; all but `layers`, `experts`, `chosen` and `matrices` are numbers of parameters.
PARTS = {
    "layers": 32,
    "queries": HIDDEN * HIDDEN,
    "keys": HIDDEN * KEY_VALUE_WIDTH,
    "values": HIDDEN * KEY_VALUE_WIDTH,
    "output": HIDDEN * HIDDEN,
    "biases": 0,
    "matrices": 3,  # of an expert
    "experts": 8,
    "chosen": 2,
    "shared": 0,  # the shared expert of a layer
    "router": 8 * HIDDEN,
    "norms": 2 * HIDDEN,  # of a layer
    "embedding": VOCABULARY * HIDDEN,
    "head": VOCABULARY * HIDDEN,
    "last_norm": HIDDEN,
}


class Counts(NamedTuple):
    """Numbers of parameters."""

    total: int
    activated: int


class Mistake(NamedTuple):
    """Parts that somebody counts differently, and a hint that does not give the answer away."""

    changes: dict[str, int]
    hint: str


def count_mixtral(**changes: int) -> Counts:
    """The total and the activated parameters; `changes`: parts of PARTS that are counted differently."""
    parts = PARTS | changes
    attention = parts["queries"] + parts["keys"] + parts["values"] + parts["output"] + parts["biases"]
    expert = parts["matrices"] * EXPERT_MATRIX
    always = attention + parts["shared"] + parts["router"] + parts["norms"]
    outside = parts["embedding"] + parts["head"] + parts["last_norm"]
    total = parts["layers"] * (always + parts["experts"] * expert) + outside
    activated = parts["layers"] * (always + parts["chosen"] * expert) + outside
    return Counts(total, activated)


#: A mistake alone comes before pairs of them: an answer is explained by as few mistakes as possible.
MIXTRAL_MISTAKES = [
    Mistake(
        {"keys": HIDDEN * HIDDEN, "values": HIDDEN * HIDDEN},
        to_say("Do keys and values have as many heads as the queries? Look at num_key_value_heads."),
    ),
    Mistake(
        {"keys": HIDDEN * 8, "values": HIDDEN * 8},
        to_say("Keys and values have 8 heads. How many numbers is one head wide?"),
    ),
    Mistake(
        {"keys": HIDDEN * HEAD, "values": HIDDEN * HEAD},
        to_say("That is one head of keys and one of values. How many are there?"),
    ),
    Mistake({"values": 0}, to_say("Keys have a matrix, values have one too, and each is 8 heads wide.")),
    Mistake({"keys": 0, "values": 0}, to_say("Attention needs keys and values too.")),
    Mistake(
        {"output": 0}, to_say("Attention has four matrices: the last one puts the heads together again.")
    ),
    Mistake(
        {"output": HIDDEN * KEY_VALUE_WIDTH},
        to_say(
            "Only keys and values have fewer heads: the matrices of the queries and of the output keep "
            "all 32."
        ),
    ),
    Mistake(
        {"biases": HIDDEN + 2 * KEY_VALUE_WIDTH}, to_say("Queries, keys and values have no biases here.")
    ),
    Mistake({"biases": 3 * HIDDEN}, to_say("Queries, keys and values have no biases here.")),
    Mistake({"matrices": 2}, to_say("An expert has three matrices, as in the model of this notebook.")),
    Mistake({"matrices": 1}, to_say("An expert is more than one matrix.")),
    Mistake({"shared": 3 * EXPERT_MATRIX}, to_say("This model has no shared expert.")),
    Mistake({"shared": 4 * 3 * EXPERT_MATRIX}, to_say("This model has no shared expert.")),
    Mistake({"chosen": 1}, to_say("How many experts does a token use? Look at num_experts_per_tok.")),
    Mistake({"chosen": 4}, to_say("How many experts does a token use here? Look at num_experts_per_tok.")),
    Mistake({"chosen": 0}, to_say("A token uses some of the experts, too.")),
    Mistake({"experts": 1}, to_say("That is one expert a layer. How many are there?")),
    Mistake({"experts": 7}, to_say("There are 8 experts a layer, all of them routed.")),
    Mistake({"router": 0}, to_say("The router has parameters too: a score for each expert.")),
    Mistake({"router": 2 * HIDDEN}, to_say("The router scores all experts, also those that are not chosen.")),
    Mistake(
        {"router": 8 * HIDDEN + HIDDEN}, to_say("There is no shared expert, so there is no gate for it.")
    ),
    Mistake(
        {"norms": HIDDEN}, to_say("A layer has two norms: one before attention, one before the experts.")
    ),
    Mistake({"norms": 0}, to_say("The norms have parameters too, two norms a layer.")),
    Mistake(
        {"norms": 0, "last_norm": 0}, to_say("The norms have parameters too: two a layer, one at the end.")
    ),
    Mistake({"last_norm": 0}, to_say("After the last layer there is one more norm.")),
    Mistake(
        {"head": 0}, to_say("Embedding and output are two matrices here (tie_word_embeddings is false).")
    ),
    Mistake(
        {"embedding": 0, "head": 0},
        to_say("What turns tokens into numbers, and numbers into tokens, counts too."),
    ),
    Mistake({"layers": 1}, to_say("That is one layer. How many are there?")),
    Mistake({"layers": 24}, to_say("24 layers are those of the model of this notebook.")),
    Mistake({"router": 60 * HIDDEN}, to_say("The router scores 8 experts here, not 60.")),
    Mistake(
        {"embedding": 151_936 * HIDDEN, "head": 151_936 * HIDDEN},
        to_say("151,936 tokens are the vocabulary of the model of this notebook."),
    ),
]
