"""What recording costs: whole `generate()` calls, four ways in turn, as ratios to the plain call.

python tests/benchmarks/routing.py            a random model on the CPU, about two minutes
python tests/benchmarks/routing.py FOLDER     a real model, on the GPUs if there are any

Every round runs all ways in a new order and compares each with the plain run of the same round, so that a
machine that slows down for a while slows down all of them. A second plain call shows the noise. Printed: the
median of the ratios, and its quartiles.
"""

import argparse
import random
import statistics
import time
from contextlib import ExitStack, contextmanager

import torch
import transformers

from helpers.routing import RoutingRecorder, find_routers


@contextmanager
def plain(model):
    yield


@contextmanager
def recorder(model):
    with RoutingRecorder(model) as recorded:
        yield
    assert len(recorded.routing.experts)


@contextmanager
def recompute_and_copy(model):
    """What existing visualisers do: softmax and top-k again in a hook, and a copy to the CPU per layer."""
    kept = []

    def hook(module, args, output):
        hidden = args[0].flatten(0, -2)  # (tokens, hidden)
        logits = torch.nn.functional.linear(hidden, module.weight)
        probabilities = logits.softmax(-1, dtype=torch.float)
        weights, experts = probabilities.topk(module.top_k)
        kept.append((weights.cpu(), experts.cpu()))

    with ExitStack() as hooks:
        for router in find_routers(model):
            handle = router.module.register_forward_hook(hook)
            hooks.callback(handle.remove)
        yield


@contextmanager
def output_router_logits(model):
    model.config.output_router_logits = True
    yield
    model.config.output_router_logits = False


def plain_again(model):
    return plain(model)


WAYS = [plain, plain_again, recorder, recompute_and_copy, output_router_logits]


def random_model():
    """Qwen2-MoE with 0.2 billion parameters: large enough for a pass to take longer than a Python call."""
    config = transformers.Qwen2MoeConfig(
        vocab_size=8000,
        hidden_size=768,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=12,
        num_experts=16,
        num_experts_per_tok=4,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=2048,
    )
    torch.manual_seed(0)
    return transformers.Qwen2MoeForCausalLM(config).eval()


def seconds(model, way, inputs, new_tokens):
    """Duration of one `generate()` call, including what the way does after it."""
    started = time.perf_counter()
    with way(model):
        model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def read_options():
    parser = argparse.ArgumentParser(description="What recording the routing costs.")
    parser.add_argument("model", nargs="?", help="folder of a model; default: a random one")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--batch", type=int, default=1)
    return parser.parse_args()


def load_model(folder):
    """The model of a folder on all GPUs, or the random one on one thread."""
    if folder is None:
        torch.set_num_threads(1)
        return random_model()
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="auto")


def main():
    options = read_options()
    model = load_model(options.model)
    model.generation_config.pad_token_id = 0
    shape = (options.batch, options.prompt)
    ids = torch.randint(1, model.config.vocab_size, shape, device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    for way in WAYS:  # warm up
        seconds(model, way, inputs, 2)
    ratios = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        taken = {}
        for way in random.sample(WAYS, len(WAYS)):
            taken[way] = seconds(model, way, inputs, options.new_tokens)
        for way in WAYS:
            ratios[way].append(taken[way] / taken[plain])
    print(f"plain: {taken[plain]:.2f} s, {options.rounds} rounds; ratio to it: median (quartiles)")
    for way in WAYS[1:]:
        low, middle, high = statistics.quantiles(ratios[way], n=4)
        print(f"{way.__name__:22} {middle:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
