"""Every mixture of experts that transformers 5.23 has for text: a tiny configuration, and its router by hand.

Each rule was read in the forward function of the router class. `MODELS` has one row for each model type whose
routing is recorded, `REFUSED` one for each that is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "num_experts": 12,
    "num_local_experts": 12,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "pad_token_id": 0,
    "bos_token_id": 6,
    "eos_token_id": 2,
}
LOW_RANK_ATTENTION = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
INDEXED_ATTENTION = LOW_RANK_ATTENTION | {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 16}
GROUPS = {"n_group": 4, "topk_group": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.5}
SPARSE_FROM_THE_SECOND = {"mlp_layer_types": ["dense", "sparse", "sparse"]}
LINEAR_FIRST = {"layer_types": ["linear_attention", "full_attention", "full_attention"]}
SMALL_LINEAR_ATTENTION = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


def root_of_softplus(scores):
    return np.sqrt(np.log1p(np.exp(scores)))


def unchanged(scores):
    return scores


@dataclass
class Rule:
    """How a router comes from a hidden state to experts and weights."""

    scores: Callable = softmax
    """Makes scores of the logits of all experts."""
    weights: Callable = unchanged
    """Makes weights of the scores of the chosen experts."""
    matrix: str = "weight"
    """Name of the router's matrix."""
    logit_bias: str = ""
    """Name of what is added to the logits."""
    choice_bias: str = ""
    """Name of what is added to the scores for the choice only; `given`: the router's second argument."""
    best_of_group: int = 0
    """Experts come from the best groups: those with the largest sum of this many scores; 0: no groups."""
    normalise: bool = False
    """The weights are divided by their sum."""
    scale: str = ""
    """Name of the setting that the weights are multiplied with."""

    def choose(self, module, arguments, config):
        """Experts and weights (tokens, k), from what the router module was given."""
        logits = self.logits(module, arguments[0])
        scores = self.scores(logits)
        for_choice = scores + self.bias(module, arguments)
        if self.best_of_group:
            for_choice = self.only_the_best_groups(for_choice, config)
        experts = np.argsort(-for_choice, axis=-1)[:, : number_of_experts_per_token(config)]
        weights = self.weights(np.take_along_axis(scores, experts, axis=-1))
        if self.normalise:
            weights = weights / weights.sum(-1, keepdims=True)
        if self.scale:
            weights = weights * getattr(config, self.scale)
        return experts, weights

    def logits(self, module, hidden):
        matrix = array_of(module.get_parameter(self.matrix))  # (experts, hidden)
        logits = array_of(hidden).reshape(-1, matrix.shape[1]) @ matrix.T
        if self.logit_bias:
            logits = logits + array_of(module.get_parameter(self.logit_bias))
        return logits

    def bias(self, module, arguments):
        if not self.choice_bias:
            return 0
        if self.choice_bias == "given":
            return array_of(arguments[1])
        part, _, name = self.choice_bias.rpartition(".")
        return array_of(getattr(module.get_submodule(part), name)).reshape(-1)

    def only_the_best_groups(self, scores, config):
        groups = scores.reshape(len(scores), config.n_group, -1)  # (tokens, groups, experts of a group)
        best = np.sort(groups, axis=-1)[..., -self.best_of_group :].sum(-1)  # (tokens, groups)
        chosen = np.argsort(-best, axis=-1)[:, : config.topk_group]
        allowed = np.zeros_like(best, dtype=bool)
        np.put_along_axis(allowed, chosen, True, axis=-1)
        return np.where(allowed[..., None], groups, -np.inf).reshape(scores.shape)


class Gemma4Rule(Rule):
    """Gemma 4 normalises and scales the hidden state first, and each weight afterwards."""

    def choose(self, module, arguments, config):
        hidden = array_of(arguments[0]).reshape(-1, config.hidden_size)
        size = np.sqrt((hidden**2).mean(-1, keepdims=True) + config.rms_norm_eps)
        hidden = hidden / size * array_of(module.scale) / np.sqrt(config.hidden_size)
        experts, weights = super().choose(module, (torch.from_numpy(hidden),), config)
        return experts, weights * array_of(module.per_expert_scale)[experts]


class InklingRule(Rule):
    """Inkling normalises the chosen and the shared experts, whose logits come last, together."""

    def choose(self, module, arguments, config):
        logits = self.logits(module, arguments[0])
        shared = config.n_shared_experts
        scores = sigmoid(logits)
        for_choice = scores[:, :-shared] + array_of(module.e_score_correction_bias)
        experts = np.argsort(-for_choice, axis=-1)[:, : number_of_experts_per_token(config)]
        weights = np.take_along_axis(scores, experts, axis=-1)
        total = weights.sum(-1, keepdims=True) + scores[:, -shared:].sum(-1, keepdims=True)
        return experts, weights / total * config.route_scale * array_of(module.global_scale)


class PhimoeRule(Rule):
    """Phi-3.5-MoE chooses twice, each time with a softmax of the experts that are not far below the best."""

    def choose(self, module, arguments, config):
        logits = self.logits(module, arguments[0])
        left = logits.copy()
        experts = []
        weights = []
        for _ in range(2):
            best = left.max(-1, keepdims=True)
            distance = (best - logits) / np.maximum(np.abs(logits), best)
            near = np.where(distance > 2 * config.router_jitter_noise, -np.inf, left)
            expert = left.argmax(-1)[:, None]
            experts.append(expert)
            weights.append(np.take_along_axis(softmax(near), expert, axis=-1))
            np.put_along_axis(left, expert, -np.inf, axis=-1)
        return np.concatenate(experts, -1), np.concatenate(weights, -1)


def array_of(tensor):
    return tensor.detach().double().numpy()


def number_of_experts_per_token(config):
    for name in ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"):
        if hasattr(config, name):
            return getattr(config, name)
    raise AssertionError(f"{type(config).__name__} does not say how many experts a token gets")


SOFTMAX = Rule()
NORMALISED = Rule(normalise=True)
CHOSEN_SOFTMAX = Rule(scores=unchanged, weights=softmax)
BIASED_SIGMOID = Rule(scores=sigmoid, choice_bias="e_score_correction_bias", normalise=True)
GIVEN_BIAS = Rule(scores=sigmoid, choice_bias="given", normalise=True)
DEEPSEEK = Rule(
    scores=sigmoid,
    choice_bias="e_score_correction_bias",
    best_of_group=2,
    normalise=True,
    scale="routed_scaling_factor",
)
MODELS = {
    "afmoe": (
        Rule(matrix="gate.weight", scores=sigmoid, choice_bias="given", normalise=True, scale="route_scale"),
        {"route_scale": 2.5},
    ),
    "aria_text": (CHOSEN_SOFTMAX, {"moe_topk": 3}),
    "axk1": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS),
    "axk2": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS),
    "bailing_hybrid": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS | LINEAR_FIRST),
    "beam": (
        Rule(scores=sigmoid, choice_bias="e_score_correction_bias", best_of_group=2, normalise=True),
        GROUPS | SPARSE_FROM_THE_SECOND,
    ),
    "cohere2_moe": (CHOSEN_SOFTMAX, {"expert_selection_fn": "softmax"}),
    "deepseek_v2": (
        Rule(best_of_group=1, scale="routed_scaling_factor"),
        LOW_RANK_ATTENTION | GROUPS | {"topk_method": "group_limited_greedy"},
    ),
    "deepseek_v3": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS),
    "deepseek_v32": (DEEPSEEK, INDEXED_ATTENTION | GROUPS),
    "deepseek_v4": (
        Rule(
            scores=root_of_softplus,
            choice_bias="e_score_correction_bias",
            normalise=True,
            scale="routed_scaling_factor",
        ),
        {"mlp_layer_types": ["hash_moe", "moe", "moe"]},
    ),
    "dots1": (DEEPSEEK, GROUPS | {"n_shared_experts": 1}),
    "dots3_note_text": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS),
    "ernie4_5_moe": (Rule(choice_bias="moe_statics.e_score_correction_bias", normalise=True), {}),
    "exaone_moe": (DEEPSEEK, GROUPS),
    "flex_olmo": (NORMALISED, {"norm_topk_prob": True}),
    "flint": (Rule(scores=sigmoid, normalise=True), {"norm_topk_prob": True}),
    "gemma4_text": (
        Gemma4Rule(matrix="proj.weight", normalise=True),
        {"enable_moe_block": True, "top_k_experts": 3, "vocab_size_per_layer_input": 60},
    ),
    "glm4_moe": (DEEPSEEK, GROUPS),
    "glm4_moe_lite": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS),
    "glm_moe_dsa": (DEEPSEEK, INDEXED_ATTENTION | GROUPS),
    "gpt_oss": (Rule(scores=unchanged, weights=softmax, logit_bias="bias"), {}),
    "granitemoe": (CHOSEN_SOFTMAX, {}),
    "granitemoe_swa": (CHOSEN_SOFTMAX, {}),
    "granitemoehybrid": (
        CHOSEN_SOFTMAX,
        {
            "layer_types": ["mamba", "attention", "mamba"],
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
        },
    ),
    "granitemoeshared": (CHOSEN_SOFTMAX, {}),
    "hunyuan_v1_moe": (Rule(matrix="wg.weight", normalise=True), {"moe_topk": 3}),
    "hy_v3": (
        Rule(scores=sigmoid, choice_bias="given", normalise=True, scale="router_scaling_factor"),
        {"router_scaling_factor": 2.5},
    ),
    "hy_v4": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS),
    "inkling2_text": (
        Rule(
            scores=sigmoid,
            choice_bias="e_score_correction_bias",
            normalise=True,
            scale="routed_scaling_factor",
        ),
        {"routed_scaling_factor": 2.5},
    ),
    "inkling_text": (InklingRule(), {}),
    "jamba": (SOFTMAX, {"attn_layer_offset": 1, "attn_layer_period": 2, "mamba_d_state": 8}),
    "jetmoe": (Rule(matrix="layer.weight", scores=unchanged, weights=softmax), {}),
    "kimi_linear": (DEEPSEEK, LOW_RANK_ATTENTION | GROUPS | LINEAR_FIRST),
    "kolibri1": (
        Rule(scores=unchanged, weights=sigmoid, choice_bias="e_score_correction_bias", normalise=True),
        {"norm_topk_prob": True},
    ),
    "laguna": (BIASED_SIGMOID, {}),
    "lfm2_moe": (
        GIVEN_BIAS,
        {
            "layer_types": ["conv", "full_attention", "full_attention"],
            "num_dense_layers": 1,
            "use_expert_bias": True,
            "norm_topk_prob": True,
        },
    ),
    "llama4_text": (
        Rule(scores=unchanged, weights=sigmoid),
        {"interleave_moe_layer_step": 1, "intermediate_size_mlp": 32},
    ),
    "longcat_flash": (
        Rule(
            matrix="classifier.weight",
            choice_bias="e_score_correction_bias",
            scale="routed_scaling_factor",
        ),
        LOW_RANK_ATTENTION,
    ),
    "mellum": (NORMALISED, {"norm_topk_prob": True}),
    "mimo_v2_flash": (DEEPSEEK, GROUPS),
    "minimax": (NORMALISED, {}),
    "minimax_m2": (GIVEN_BIAS, {}),
    "minimax_m3_vl_text": (BIASED_SIGMOID, {}),
    "mixtral": (NORMALISED, {}),
    "nemotron_h": (DEEPSEEK, GROUPS),
    "olmoe": (SOFTMAX, {"norm_topk_prob": False}),
    "phimoe": (PhimoeRule(), {"num_experts_per_tok": 2}),
    "qwen2_moe": (SOFTMAX, {"norm_topk_prob": False}),
    "qwen3_5_moe_text": (NORMALISED, LINEAR_FIRST | SMALL_LINEAR_ATTENTION),
    "qwen3_moe": (NORMALISED, {"norm_topk_prob": True}),
    "qwen3_next": (NORMALISED, LINEAR_FIRST | SMALL_LINEAR_ATTENTION | {"norm_topk_prob": True}),
    "qwen4_exp_text": (
        NORMALISED,
        LINEAR_FIRST
        | SMALL_LINEAR_ATTENTION
        | {
            "norm_topk_prob": True,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 64,
            "indexer_compress_ratio": 4,
        },
    ),
    "solar_open": (DEEPSEEK, GROUPS),
    # Text parts of models that also see or hear: these classes have no head that generates.
    "deepseek_ocr2_text": (
        Rule(scale="routed_scaling_factor"),
        SPARSE_FROM_THE_SECOND | {"routed_scaling_factor": 2.5},
    ),
    "glm4v_moe_text": (
        DEEPSEEK,
        GROUPS | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]}},
    ),
    "glm5_next_text": (
        DEEPSEEK,
        INDEXED_ATTENTION | GROUPS | SPARSE_FROM_THE_SECOND | LINEAR_FIRST | {"qk_rope_head_dim": 0},
    ),
    "mistral4": (
        Rule(best_of_group=2, normalise=True, scale="routed_scaling_factor"),
        LOW_RANK_ATTENTION | GROUPS | {"head_dim": 16},
    ),
    "mistral_large4_text": (
        Rule(best_of_group=2, normalise=True, scale="routed_scaling_factor"),
        LOW_RANK_ATTENTION | GROUPS,
    ),
    "muse_spark_text": (
        Rule(
            scores=sigmoid,
            choice_bias="e_score_correction_bias",
            normalise=True,
            scale="routed_scaling_factor",
        ),
        {"output_multiplier": 1.0, "routed_scaling_factor": 2.5},
    ),
    "qwen3_omni_moe_thinker_text": (NORMALISED, {"norm_topk_prob": True}),
    "qwen3_vl_moe_text": (NORMALISED, {}),
    "step3p7_text": (BIASED_SIGMOID, SPARSE_FROM_THE_SECOND | {"sliding_window": 16}),
    "unlimited_ocr_text": (Rule(scale="routed_scaling_factor"), {}),
}
#: Model types that no Auto class makes: the class of the model, and that of its configuration.
CLASSES = {
    "deepseek_ocr2_text": ("DeepseekOcr2TextModel", "DeepseekOcr2TextConfig"),
    "qwen3_omni_moe_thinker_text": ("Qwen3OmniMoeThinkerTextModel", "Qwen3OmniMoeTextConfig"),
    "step3p7_text": ("Step3p7TextModel", "Step3p7TextConfig"),
    "unlimited_ocr_text": ("UnlimitedOcrTextModel", "UnlimitedOcrTextConfig"),
}


#: Refused model types, with settings and what the refusal says.
REFUSED = {
    "dbrx": (
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2},
            "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
        },
        "DbrxForCausalLM cannot be recorded: its router returns only scores",
    ),
    "doge": ({"is_moe": True}, "DogeForCausalLM cannot be recorded: it chooses single neurons"),
    "zaya": ({"num_experts_per_tok": 1}, "ZayaForCausalLM cannot be recorded: a token can skip the experts"),
    "switch_transformers": (
        {"d_model": 32, "d_ff": 32, "d_kv": 8, "num_heads": 4, "num_layers": 2, "num_experts": 4},
        "SwitchTransformersModel cannot be recorded: it is an encoder and a decoder",
    ),
    "nllb-moe": (
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "num_experts": 4},
        "NllbMoeModel cannot be recorded: it is an encoder and a decoder",
    ),
    "deepseek_v3": (
        LOW_RANK_ATTENTION | GROUPS | {"first_k_dense_replace": 3},
        "no layer of this DeepseekV3ForCausalLM has a DeepseekV3TopkRouter",
    ),
    "deepseek_v4": (
        {"mlp_layer_types": ["hash_moe"] * 3},
        "no layer of this DeepseekV4ForCausalLM has a DeepseekV4TopKRouter",
    ),
    "qwen2": ({}, "Qwen2ForCausalLM has no router"),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4}, "GPT2LMHeadModel has no router"),
}
#: Model types whose text part has a row of its own.
COMPOSITE = {
    "dots3_note": "dots3_note_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen4_exp": "qwen4_exp_text",
}


def make(name, settings):
    """A random model whose routers choose clearly, and whose biases change the choice."""
    torch.manual_seed(0)
    model = build(name, {**SMALL, **settings}).float().eval()
    for tensor_name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor_name.endswith(("e_score_correction_bias", "expert_bias", "per_expert_scale")):
            torch.nn.init.uniform_(tensor, 0.1, 0.5)
    return model


def build(name, settings):
    """A model of this type, with the head that generates where there is one."""
    if name in CLASSES:
        model_class, config_class = [getattr(transformers, part) for part in CLASSES[name]]
        return model_class(config_class(**settings))
    config = transformers.AutoConfig.for_model(name, **settings)
    if name == "dbrx":
        config.attn_config.rope_theta = 1e4  # read by the model, but not a field of its configuration
    if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForCausalLM.from_config(config)
    return transformers.AutoModel.from_config(config)
