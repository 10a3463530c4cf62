"""Watch every greedy `generate` of a notebook: how far ahead of the second choice is each token it takes?

Where two tokens are nearly equally likely, the rounding of a processor decides, and the stored answer is not
the answer on the next machine. The recorder is a logits processor that changes nothing; it runs after the
model's own ones, so it sees the scores that greedy decoding compares.
"""

import json
from pathlib import Path

import torch
from IPython import get_ipython
from transformers import GenerationMixin

from helpers.speed.measuring import TokenClock

plain_generate = GenerationMixin.generate


class MarginRecorder:
    """A logits processor: keeps, for each sequence, the smallest lead of first over second."""

    def __init__(self, prompt_length: int, end_tokens: set[int]):
        self.prompt_length = prompt_length
        self.end_tokens = torch.tensor(sorted(end_tokens))
        self.smallest: torch.Tensor | None = None  # (batch,)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        best = scores.float().topk(2, dim=-1).values  # (batch, 2)
        margin = best[:, 0] - best[:, 1]
        # A sequence that has ended is only padded until the others have ended too.
        ended = torch.isin(ids[:, self.prompt_length :], self.end_tokens).any(dim=1)
        margin = margin.masked_fill(ended, torch.inf)
        if self.smallest is None:
            self.smallest = margin
        else:
            self.smallest = torch.minimum(self.smallest, margin)
        return scores


def is_greedy(model, options: dict) -> bool:
    return not options.get("do_sample", model.generation_config.do_sample)


def padded_on_the_right(options: dict) -> bool:
    """Wrong on purpose, in notebook 04: what comes after it is not shown as an answer of the model."""
    mask = options.get("attention_mask")
    return mask is not None and bool((mask[:, -1] == 0).any())


def is_measured(options: dict) -> bool:
    """Whether only its time counts: nobody sees the text that `measure` lets the model write."""
    return isinstance(options.get("streamer"), TokenClock)


def watch(report: Path) -> None:
    """From now on append one line of JSON to `report` for each greedy answer: its cell, text and margin."""

    def generate(self, inputs=None, generation_config=None, **options):
        ids = inputs
        if ids is None:
            ids = options.get("input_ids")
        shown = is_greedy(self, options) and not is_measured(options) and not padded_on_the_right(options)
        if ids is None or not shown:
            return plain_generate(self, inputs, generation_config, **options)
        ends = self.generation_config.eos_token_id
        if not isinstance(ends, list):
            ends = [ends]
        recorder = MarginRecorder(ids.shape[1], set(ends))
        processors = [*options.pop("logits_processor", []), recorder]
        options["logits_processor"] = processors
        output = plain_generate(self, inputs, generation_config, **options)
        sequences = getattr(output, "sequences", output)
        with report.open("a", encoding="utf-8") as file:
            for sequence, margin in zip(sequences, recorder.smallest, strict=True):
                tokens = sequence[ids.shape[1] :].tolist()
                line = {"cell": get_ipython().execution_count, "margin": margin.item(), "tokens": tokens}
                file.write(json.dumps(line) + "\n")
        return output

    GenerationMixin.generate = generate
