"""Speed of `generate()` through the prompt box, against the bare call. Run by hand on a quiet machine.

    python tests/benchmarks/prompt_box.py [--pairs 7] [--tokens 200]

Each pair runs both, in turns, for the same number of tokens on the same prompt. The box should keep at least
0.9 of the bare speed. Uses the model that `choose_model()` chooses, or that COURSE_MODEL names.
"""

import argparse
import time

from bars import held_against

from helpers import choose_model
from helpers.inference import encode_chat, load
from helpers.prompt_box import PromptBox

BAR = 0.9  # speed through the box, as a part of the bare speed
QUESTION = "What is a large language model?"


def bare_seconds(model, tokenizer, system: str, tokens: int) -> float:
    """Seconds that the bare call takes for `tokens` new tokens."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]
    inputs = encode_chat(tokenizer, messages).to(model.device)
    started = time.perf_counter()
    output = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    seconds = time.perf_counter() - started
    new = output.shape[1] - inputs["input_ids"].shape[1]
    if new != tokens:
        raise SystemExit(f"the bare call wrote {new} tokens, not {tokens}")
    return seconds


def box_seconds(box: PromptBox) -> float:
    """Seconds from the click on Send to the end of the answer, as long as the slider says."""
    box.clear_button.click()
    box.entry.value = QUESTION
    started = time.perf_counter()
    box.send_button.click()
    box.wait()
    seconds = time.perf_counter() - started
    if box.newest_answer.new_tokens != box.new_tokens.value:
        raise SystemExit(f"the box wrote something else: {box.view.status.value} {box.view.notice.value}")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of generate() through the prompt box.")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=200)
    arguments = parser.parse_args()

    model, tokenizer = load(choose_model())
    # No end token and no repetition: both sides write exactly the same number of tokens.
    model.generation_config.eos_token_id = None
    box = PromptBox(model, tokenizer)
    box.new_tokens.value = arguments.tokens
    box.temperature.value = 0
    system = box.system.value

    # The first run of each warms up.
    bare_seconds(model, tokenizer, system, arguments.tokens)
    box_seconds(box)
    ratios = []
    for number in range(arguments.pairs):
        if number % 2:
            bare = bare_seconds(model, tokenizer, system, arguments.tokens)
            through_box = box_seconds(box)
        else:
            through_box = box_seconds(box)
            bare = bare_seconds(model, tokenizer, system, arguments.tokens)
        ratios.append(bare / through_box)
        print(f"pair {number + 1}: bare {bare:.2f} s, box {through_box:.2f} s")

    return held_against(BAR, ratios, "speed through the box / bare speed", digits=3)


if __name__ == "__main__":
    raise SystemExit(main())
