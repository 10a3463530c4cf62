"""A recording: as arrays, as a table with one row per token, layer and chosen expert, and as a file."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from helpers import CourseError
from helpers.language import say

INCOMPLETE = "\ufffd"  # what decoding gives for a part of a character
MOST_PARTS = 6  # a character has at most 4 bytes, and a token may end inside the next one


@dataclass
class Routing:
    """What was recorded: N tokens (sorted by sequence and position), L MoE layers, k experts a token."""

    sequence: np.ndarray
    """(N,) which sequence of the recording, from 0."""
    position: np.ndarray
    """(N,) place in the sequence, from 0, padding not counted."""
    token_id: np.ndarray
    """(N,) the token, as the tokenizer numbers it."""
    decode: np.ndarray
    """(N,) True: computed alone, on a KV cache; False: in a prefill."""
    layers: np.ndarray
    """(L,) numbers of the layers that have a router."""
    experts: np.ndarray
    """(N, L, k) int16: the chosen experts, largest weight first."""
    weights: np.ndarray
    """(N, L, k) float32: how much each of them counts."""
    shared_gate: np.ndarray | None = None
    """(N, L) 0 to 1: weight of the shared expert; None where it has no gate."""
    logits: np.ndarray | None = None
    """(N, L, all experts): the scores, if they were kept, as the model gives them.

    For Qwen2-MoE the softmax of a row gives the probabilities; other routers take a sigmoid, or add a bias.
    """
    router_rank: np.ndarray | None = None
    """(N, L, k) int8: place of each expert in the router's own list, from 0; None if that is the same order.

    Routers with a bias choose by another order than that of the weights, and some return no order at all.
    """

    def to_frame(self, tokenizer) -> pd.DataFrame:
        """One row per token, layer and chosen expert: N * L * k rows.

        Columns: sequence, position, token (see `token_labels`), phase ("prefill" or "decode"), layer,
        rank (0: largest weight), expert, weight; shared_gate and router_rank where the recording has them.
        """
        text = np.array(self.token_labels(tokenizer), dtype=object)  # (N,)
        token, layer, rank = np.indices(self.experts.shape).reshape(3, -1)  # each (N * L * k,)
        columns = {
            "sequence": self.sequence[token],
            "position": self.position[token],
            "token": text[token],
            "phase": np.where(self.decode, "decode", "prefill")[token],
            "layer": self.layers[layer],
            "rank": rank,
            "expert": self.experts.ravel(),
            "weight": self.weights.ravel(),
        }
        if self.shared_gate is not None:
            columns["shared_gate"] = self.shared_gate[token, layer]
        if self.router_rank is not None:
            columns["router_rank"] = self.router_rank.ravel()
        return pd.DataFrame(columns)

    def token_labels(self, tokenizer) -> list[str]:
        """The text of each token, (N,); see the function of this name."""
        labels = []
        for number in np.unique(self.sequence):
            labels += token_labels(tokenizer, self.token_id[self.sequence == number].tolist())
        return labels

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz file."""
        present = {name: value for name, value in vars(self).items() if value is not None}
        np.savez_compressed(path, **present)

    @classmethod
    def load(cls, path: str | Path) -> "Routing":
        """Read what `save` wrote. CourseError if there is no such file, or if it holds something else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**arrays)
        except FileNotFoundError as error:
            raise CourseError(
                say("There is no recording {path}: give the path that you saved to.", path=path)
            ) from error
        except (TypeError, ValueError, EOFError, AttributeError, BadZipFile) as error:
            raise CourseError(
                say("{path} holds no recording, or only part of one: record again and save again.", path=path)
            ) from error


def token_labels(tokenizer, token_ids: list[int]) -> list[str]:
    """The text of each token of one sequence.

    Some tokens are only a part of a character, as often in Chinese: where three make 词, they are called
    `词 1/3`, `词 2/3` and `词 3/3`.
    """
    alone = {token: tokenizer.decode([token]) for token in set(token_ids)}
    labels = []
    while len(labels) < len(token_ids):
        here = len(labels)
        length = tokens_of_next_character(tokenizer, token_ids[here : here + MOST_PARTS], alone)
        if length == 1:
            labels.append(alone[token_ids[here]])
            continue
        whole = tokenizer.decode(token_ids[here : here + length])
        labels += [f"{whole} {part}/{length}" for part in range(1, length + 1)]
    return labels


def tokens_of_next_character(tokenizer, token_ids: list[int], alone: dict[int, str]) -> int:
    """How many tokens it takes until the text does not end inside a character; 1 if these do not suffice."""
    if not alone[token_ids[0]].endswith(INCOMPLETE):
        return 1
    for length in range(2, len(token_ids) + 1):
        if INCOMPLETE not in tokenizer.decode(token_ids[:length]):
            return length
    return 1


def token_strip(frame: pd.DataFrame, layer: int, sequence: int = 0) -> list[tuple[str, int]]:
    """(token text, first expert) of every token of one sequence, in order; takes what `to_frame` gives."""
    rows = frame[frame["layer"] == layer]
    rows = rows[(rows["sequence"] == sequence) & (rows["rank"] == 0)]
    return list(zip(rows["token"], rows["expert"].tolist(), strict=True))
