"""Tiny random models of four architectures, prompts for them, and their routing computed a second time."""

import numpy as np
import torch
import transformers

PAD = 0
END = [0, 1, 2, 3, 4]  # padding is an end token, as in Qwen
FIRST_WORD = 10
VOCABULARY = 60
NUM_EXPERTS = 12
EXPERTS_PER_TOKEN = 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": EXPERTS_PER_TOKEN,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "bos_token_id": 6,
}
CONFIGS = {
    "qwen2_moe": (
        transformers.Qwen2MoeConfig,
        {"num_experts": NUM_EXPERTS, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    ),
    "qwen3_moe": (
        transformers.Qwen3MoeConfig,
        {"num_experts": NUM_EXPERTS, "moe_intermediate_size": 16, "head_dim": 8, "norm_topk_prob": True},
    ),
    "mixtral": (
        transformers.MixtralConfig,
        {"num_local_experts": NUM_EXPERTS, "sliding_window": None},
    ),
    "olmoe": (
        transformers.OlmoeConfig,
        {"num_experts": NUM_EXPERTS},
    ),
}
NAMES = list(CONFIGS)


def make_model(name="qwen2_moe", seed=0, **changes):
    """A random model; `changes` are settings of its configuration."""
    config_class, settings = CONFIGS[name]
    config = config_class(**{**SIZES, **settings, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for layer in moe_layers(model):
        torch.nn.init.normal_(layer.mlp.gate.weight, std=0.3)  # clear choices, no near ties
    return model


def moe_layers(model):
    return [layer for layer in model.model.layers if hasattr(layer.mlp, "gate")]


def make_prompts(seed, batch):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 12, batch)
    return [rng.integers(FIRST_WORD, VOCABULARY, length).tolist() for length in lengths]


def pad(prompts, side="left"):
    """Prompts of different lengths as one batch."""
    width = max(len(prompt) for prompt in prompts)
    ids = []
    mask = []
    for prompt in prompts:
        padding = [PAD] * (width - len(prompt))
        zeros = [0] * len(padding)
        ones = [1] * len(prompt)
        if side == "left":
            ids.append(padding + prompt)
            mask.append(zeros + ones)
        else:
            ids.append(prompt + padding)
            mask.append(ones + zeros)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def sample(model, prompts, **options):
    """Up to 8 new tokens for each prompt, drawn at random."""
    return model.generate(**pad(prompts), do_sample=True, max_new_tokens=8, **options)


def inputs_of_the_moe_blocks(model, tokens):
    """One array (tokens, hidden) for each layer with experts, for one sequence."""
    seen = []

    def keep(module, args, output):
        seen.append(output[0].double().numpy())

    hooks = []
    for layer in moe_layers(model):
        hooks.append(layer.post_attention_layernorm.register_forward_hook(keep))
    with torch.no_grad():
        model(torch.tensor([tokens]))
    for hook in hooks:
        hook.remove()
    return seen


def softmax(scores):
    powers = np.exp(scores)
    return powers / powers.sum(-1, keepdims=True)


def reference(model, tokens):
    """Experts and weights (tokens, layers, k) of one sequence: NumPy, from the input of the MoE blocks."""
    experts = []
    weights = []
    normalise = getattr(model.config, "norm_topk_prob", True)  # Mixtral always does
    hidden_states = inputs_of_the_moe_blocks(model, tokens)
    for layer, hidden in zip(moe_layers(model), hidden_states, strict=True):
        router = layer.mlp.gate.weight.detach().double().numpy()  # (experts, hidden)
        probabilities = softmax(hidden @ router.T)
        chosen = np.argsort(-probabilities)[:, :EXPERTS_PER_TOKEN]
        weight = np.take_along_axis(probabilities, chosen, axis=-1)
        if normalise:
            weight = weight / weight.sum(-1, keepdims=True)
        experts.append(chosen)
        weights.append(weight)
    return np.stack(experts, 1), np.stack(weights, 1)


def assert_routing_of(model, routing, sequences):
    """The recording holds exactly these sequences, each routed as the reference says."""
    assert sorted(set(routing.sequence.tolist())) == list(range(len(sequences)))
    for number, tokens in enumerate(sequences):
        mine = routing.sequence == number
        experts, weights = reference(model, tokens)
        assert routing.token_id[mine].tolist() == tokens
        assert routing.position[mine].tolist() == list(range(len(tokens)))
        assert (routing.experts[mine] == experts).all()
        assert np.abs(routing.weights[mine] - weights).max() < 1e-6


def generated_tokens(output, prompts):
    """What the model read of each sequence: all but the last new token, up to and without an end token."""
    width = max(len(prompt) for prompt in prompts)
    sequences = []
    for row, prompt in zip(output.tolist(), prompts, strict=True):
        read = list(prompt)
        for token in row[width:-1]:
            if token in END:
                break
            read.append(token)
        sequences.append(read)
    return sequences


class Letters:
    """A tokenizer whose token 20 is `a`, 21 is `b` and so on."""

    def decode(self, ids):
        return "".join(chr(ord("a") + token - 20) for token in ids)
