"""Speed of `generate()` through the prompt box, against the bare call. Run by hand on a quiet machine.

    python tests/benchmarks/prompt_box.py [--pairs 7] [--tokens 200]

Each pair runs both, in turns, for the same number of tokens on the same prompt. The box should keep at least
0.9 of the bare speed. Uses the model that `choose_model()` chooses, or that COURSE_MODEL names.
"""

import argparse
import statistics
import time

from helpers import choose_model
from helpers.inference import load
from helpers.inference.chat import encode_chat
from helpers.prompt_box import PromptBox

BAR = 0.9


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of generate() through the prompt box.")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=200)
    arguments = parser.parse_args()
    model, tokenizer = load(choose_model())
    # No end token and no repetition: both sides write exactly the same number of tokens.
    model.generation_config.eos_token_id = None
    box = PromptBox(model, tokenizer)
    box.new_tokens.value, box.temperature.value = arguments.tokens, 0
    question = "What is a large language model?"

    def bare() -> float:
        messages = [box.messages[0], {"role": "user", "content": question}]
        inputs = encode_chat(tokenizer, messages).to(model.device)
        started = time.perf_counter()
        output = model.generate(**inputs, max_new_tokens=arguments.tokens, do_sample=False)
        assert output.shape[1] - inputs["input_ids"].shape[1] == arguments.tokens
        return time.perf_counter() - started

    def through_the_box() -> float:
        box.clear_button.click()
        box.entry.value = question
        started = time.perf_counter()
        box.send_button.click()
        assert box.wait(timeout=600) and f"{arguments.tokens:,} out" in box.status.value, box.notice.value
        return time.perf_counter() - started

    bare(), through_the_box()  # the first run of each warms up
    ratios = []
    for number in range(arguments.pairs):
        first, second = (bare, through_the_box) if number % 2 else (through_the_box, bare)
        seconds = {first: first(), second: second()}
        ratios.append(seconds[bare] / seconds[through_the_box])
        print(f"pair {number + 1}: bare {seconds[bare]:.2f} s, box {seconds[through_the_box]:.2f} s")
    ratio = statistics.median(ratios)
    print(f"speed through the box / bare speed: median {ratio:.3f} of {sorted(round(r, 3) for r in ratios)}")
    print(f"bar {BAR}: {'reached' if ratio >= BAR else 'NOT reached'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
