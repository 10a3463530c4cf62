"""A small config of every type of model that the forecast knows, and requests of every kind."""

from transformers import AutoConfig, PreTrainedConfig

#: Sizes that most configs share. Heads of keys are fewer than heads of queries, where a model allows it.
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
}
SHARED_HEADS = {**SIZES, "num_key_value_heads": 2}
OLD_NAMES = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
WINDOW = {"sliding_window": 48}
LATENT_ATTENTION = {
    **SIZES,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

#: Name of the case -> (model_type, settings).
ARCHITECTURES = {
    "bloom": ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000}),
    "cohere": ("cohere", SHARED_HEADS),
    "cohere2": ("cohere2", {**SHARED_HEADS, **WINDOW, "head_dim": 16}),
    "deepseek_v2": (
        "deepseek_v2",
        {**LATENT_ATTENTION, "q_lora_rank": None, "n_group": 1, "topk_method": "greedy"},
    ),
    "deepseek_v3": ("deepseek_v3", {**LATENT_ATTENTION, "q_lora_rank": 32, "n_group": 2}),
    "falcon": ("falcon", SIZES),
    "falcon with alibi": ("falcon", {**SIZES, "alibi": True}),
    "gemma": ("gemma", {**SHARED_HEADS, "head_dim": 32}),
    "gemma2": ("gemma2", {**SHARED_HEADS, **WINDOW, "head_dim": 32}),
    "gemma3": ("gemma3_text", {**SHARED_HEADS, **WINDOW, "head_dim": 32}),
    "gpt2": ("gpt2", OLD_NAMES),
    "gpt_neox": ("gpt_neox", SIZES),
    "granite": ("granite", SHARED_HEADS),
    "granitemoe": ("granitemoe", {**SHARED_HEADS, **LOCAL_EXPERTS}),
    "llama": ("llama", SIZES),
    "llama with shared heads": ("llama", SHARED_HEADS),
    "mistral": ("mistral", {**SHARED_HEADS, **WINDOW}),
    "mixtral": ("mixtral", {**SHARED_HEADS, **LOCAL_EXPERTS}),
    "olmo2": ("olmo2", SHARED_HEADS),
    "olmoe": ("olmoe", {**SHARED_HEADS, "num_experts": 8, "num_experts_per_tok": 2}),
    "opt": (
        "opt",
        {
            "hidden_size": 64,
            "ffn_dim": 160,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 1000,
            "word_embed_proj_dim": 64,
        },
    ),
    "phi": ("phi", SIZES),
    "phi3": ("phi3", {**SHARED_HEADS, "pad_token_id": 0}),
    "qwen2": ("qwen2", SHARED_HEADS),
    "qwen2 with a window": (
        "qwen2",
        {**SHARED_HEADS, **WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen2_moe": ("qwen2_moe", {**SHARED_HEADS, **EXPERTS, "shared_expert_intermediate_size": 80}),
    "qwen3": ("qwen3", {**SHARED_HEADS, "head_dim": 32}),
    "qwen3_moe": ("qwen3_moe", {**SHARED_HEADS, **EXPERTS, "head_dim": 16}),
    "smollm3": ("smollm3", {**SHARED_HEADS, "pad_token_id": 0}),
    "stablelm": ("stablelm", SHARED_HEADS),
    "starcoder2": ("starcoder2", {**SHARED_HEADS, **WINDOW}),
}


def config_of(name: str) -> PreTrainedConfig:
    """The config of a case."""
    model_type, settings = ARCHITECTURES[name]
    return AutoConfig.for_model(model_type, **settings)


SAMPLER = {"sampling": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}
#: What is asked of each model. The first goes beyond the windows of 48 tokens.
REQUESTS = [
    {"batch": 2, "prompt": 120, "new": 3, "dtype": "bfloat16", "attention": "sdpa"},
    {"batch": 3, "prompt": 70, "new": 2, "dtype": "float32", "attention": "sdpa", "padding": True},
    {"batch": 2, "prompt": 80, "new": 2, "dtype": "bfloat16", "attention": "eager", "padding": True},
    {
        "batch": 8,
        "prompt": 9,
        "new": 2,
        "dtype": "float32",
        "attention": "eager",
        "sampling": True,
        **SAMPLER,
    },
]
