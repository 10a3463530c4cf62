"""A recording as large as the real model's, and hostile: 24 layers, 60 experts, no model."""

import numpy as np

from helpers.routing import Explorer, Routing

LAYERS = 24
EXPERTS = 60
EXPERTS_PER_TOKEN = 4


class Words:
    """A tokenizer with one token per word."""

    def __init__(self):
        self.words = []

    def encode(self, text):
        self.words = text.split()
        return range(len(self.words))

    def decode(self, ids):
        return " ".join(self.words[number] for number in ids)


def make_explorer(text):
    """Token t goes to the experts t, t + 1, t + 2 and t + 3 in layer 0, and one further in each layer."""
    tokenizer = Words()

    def record(text):
        ids = np.array(tokenizer.encode(text))
        token, layer, rank = np.indices((len(ids), LAYERS, EXPERTS_PER_TOKEN))
        return Routing(
            sequence=np.zeros(len(ids), int),
            position=np.arange(len(ids)),
            token_id=ids,
            decode=np.zeros(len(ids), bool),
            layers=np.arange(LAYERS),
            experts=((token + layer + rank) % EXPERTS).astype(np.int16),
            weights=(0.4 / (1 + rank)).astype(np.float32),
            shared_gate=np.full((len(ids), LAYERS), 0.5, np.float32),
            logits=np.random.default_rng(0).normal(size=(len(ids), LAYERS, EXPERTS)).astype(np.float32),
        )

    return Explorer(record, tokenizer, text)
