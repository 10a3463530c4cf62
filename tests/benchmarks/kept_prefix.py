"""First token of turn five of a chat: the cache of turn four kept, or everything computed again.

    python tests/benchmarks/kept_prefix.py [--pairs 7] [--words 100]

Run by hand on a quiet machine. Each pair holds the same five turns twice, once as the prompt box does, once
without: four long questions, then a short one. The kept cache should halve the time at least. Uses the model
that `choose_model()` chooses, or that COURSE_MODEL names.
"""

import argparse

from bars import held_against

from helpers import choose_model
from helpers.inference import KeptPrefix, load, stream_chat

BAR = 2.0  # time of the first token without, as a multiple of the time with
TURNS = 5
NEW_TOKENS = 16


def fifth_turn(model, tokenizer, words: int, prefix: KeptPrefix | None) -> tuple[float, list[list[int]]]:
    """Seconds to the first token of the last of five turns, and the tokens of all answers."""
    messages = [{"role": "system", "content": "You are a helpful assistant."}]
    answers = []
    for turn in range(TURNS):
        question = f"Question {turn}: " + " ".join(f"word{number}" for number in range(words))
        if turn == TURNS - 1:
            question = "And why is that?"
        messages.append({"role": "user", "content": question})
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
        stream = stream_chat(model, tokenizer, messages, prefix=prefix, **options)
        messages.append({"role": "assistant", "content": "".join(stream)})
        answers.append(stream.token_ids)
    return stream.first_token_seconds, answers


def main() -> int:
    parser = argparse.ArgumentParser(description="First token of turn five, with a kept cache and without.")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--words", type=int, default=100, help="of each long question")
    arguments = parser.parse_args()

    model, tokenizer = load(choose_model())
    fifth_turn(model, tokenizer, arguments.words, None)  # warms up
    ratios = []
    for number in range(arguments.pairs):
        seconds = {}
        answers = {}
        order = ["kept", "computed"]
        if number % 2:
            order.reverse()
        for way in order:
            prefix = None
            if way == "kept":
                prefix = KeptPrefix()
            seconds[way], answers[way] = fifth_turn(model, tokenizer, arguments.words, prefix)
        if answers["kept"] != answers["computed"]:
            print(
                "The answers differ: in bf16 two nearly equal choices may turn round, see the tests in fp32."
            )
        ratios.append(seconds["computed"] / seconds["kept"])
        print(f"pair {number + 1}: computed {seconds['computed']:.4f} s, kept {seconds['kept']:.4f} s")

    return held_against(BAR, ratios, "first token of turn five, computed / kept", digits=1)


if __name__ == "__main__":
    raise SystemExit(main())
