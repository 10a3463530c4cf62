"""One model in vLLM with random weights, in a process of its own: prints its rows as JSON in the last line.

    python tests/gpu/vllm_child.py FOLDER NAME PROMPT NEW GPUS COMPILER BATCH [BATCH ...]

FOLDER holds a config.json and nothing else: vLLM makes the weights itself (`load_format="dummy"`). COMPILER
is 1 where the machine has one; with 0, vLLM compiles nothing.
"""

import json
import sys
import time

import vllm


def main() -> None:
    """Answer each batch once to warm up and once on the clock."""
    folder, name = sys.argv[1:3]
    prompt, new, gpus, compiler, *batches = map(int, sys.argv[3:])
    engine = vllm.LLM(
        model=folder,
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=prompt + new,
        tensor_parallel_size=gpus,
        enforce_eager=compiler == 0,
        enable_prefix_caching=False,  # else the second batch would find its prompt computed
    )
    wishes = vllm.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, detokenize=False)
    rows = []
    for batch in batches:
        texts = []
        for number in range(batch):
            ids = [(7 * number + 3 * place) % 1000 for place in range(prompt)]
            texts.append({"prompt_token_ids": ids})
        engine.generate(texts, wishes, use_tqdm=False)
        start = time.perf_counter()
        engine.generate(texts, wishes, use_tqdm=False)
        seconds = time.perf_counter() - start
        rate = batch * (prompt + new) / seconds
        rows.append({"batch": batch, "prompt": prompt, "seconds": seconds, "tokens_per_second": rate})
    common = {"lever": "vllm", "setting": name, "phase": "request", "version": vllm.__version__}
    common["compiled"] = compiler == 1
    rows = [{**common, **row} for row in rows]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
