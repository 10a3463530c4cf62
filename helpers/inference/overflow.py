"""Notice a model whose numbers overflowed, before it says "!!!!!".

When a number grows beyond the range of its dtype, it becomes infinite and then NaN ("not a number"), and so
do all scores. Greedy decoding then takes the first token of the vocabulary, "!" in Qwen's, again and again;
sampling from NaN ends with an error, on a GPU with one that makes the GPU useless until the kernel restarts.
"""

from helpers import CourseError
from helpers.language import say


class OverflowCheck:
    """A logits processor for `generate`: remembers if scores were NaN or infinite, and makes them finite.

    Nothing here waits for the GPU: the answer stays there as a tensor until `overflowed` asks for it. Ask
    after `generate` has handed over the token, for which it has waited anyway.
    """

    def __init__(self):
        self._seen = None  # a tensor of one boolean, once there were scores

    def __call__(self, input_ids, scores):
        """`input_ids`: (batch, tokens); `scores` of the next token: (batch, vocabulary)."""
        highest = scores.max()  # NaN if one of them is NaN
        bad = ~highest.isfinite()
        if self._seen is not None:
            bad = bad | self._seen
        self._seen = bad
        return scores.nan_to_num(
            nan=0.0, posinf=0.0, neginf=float("-inf")
        )  # minus infinity: a forbidden token

    @property
    def overflowed(self) -> bool:
        """Whether any scores so far were NaN or infinite."""
        return self._seen is not None and bool(self._seen)


def overflow_error(dtype) -> CourseError:
    """The sentence for a model that overflowed with this dtype of torch."""
    name = str(dtype).removeprefix("torch.")
    if name == "float16":
        return CourseError(
            say(
                "The model overflowed in float16, whose numbers end at 65,504: its scores are no numbers "
                '(NaN), and the answer would be "!!!!!". Load it with dtype=torch.bfloat16, or with '
                "dtype=torch.float32 on a GPU without bfloat16."
            )
        )
    return CourseError(
        say(
            "The model overflowed in {dtype}: its scores are no numbers (NaN), although {dtype} has room "
            "enough, so its weights are probably damaged: check the files of the model.",
            dtype=name,
        )
    )
