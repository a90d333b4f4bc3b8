"""Tiny untrained models of many architectures, by the name that their configurations carry (``model_type``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tiny import GROUPED, SIZES, SPECIALS, character_tokenizer

#: Wide enough that every layer matters, and not so wide that the rounding of one is blown up by the next.
SPREAD = {"initializer_range": 0.1}
STATES_AND_ATTENTION = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
CONVOLUTIONS_AND_ATTENTION = ["conv", "conv", "full_attention", "conv"]
#: A gated delta rule, as in Qwen3-Next.
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
    "layer_types": STATES_AND_ATTENTION,
}
#: A Mamba-2 layer of twice the hidden size.
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
    "num_hidden_layers": 4,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


@dataclass(frozen=True)
class Family:
    """One architecture."""

    known_as: str
    """Models that have it."""
    layers: str
    """What its layers are, in a few words."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Arguments of its configuration that make it tiny."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Layers that get an adapter."""


STATES = ("out_proj", "q_proj", "v_proj", "o_proj", "up_proj", "down_proj")
MAMBA_TARGETS = ("in_proj", "q_proj", "v_proj", "o_proj", "up_proj", "down_proj")

FAMILIES: dict[str, Family] = {
    "qwen3_5_text": Family(
        "Qwen3.5 (0.8B to 27B)", "gated delta rule, attention", GROUPED | DELTA | {"head_dim": 8}, ("in_proj_qkv", *STATES)
    ),
    "qwen3_next": Family(
        "Qwen3-Next", "gated delta rule, attention, experts", GROUPED | DELTA | EXPERTS | {"head_dim": 8},
        ("in_proj_qkvz", "out_proj", "q_proj", "v_proj", "o_proj"),
    ),
    "lfm2": Family(
        "LFM2 (350M to 2.6B)", "short convolutions, attention",
        GROUPED | {"num_hidden_layers": 4, "layer_types": CONVOLUTIONS_AND_ATTENTION},
        ("in_proj", "out_proj", "q_proj", "v_proj", "w1", "w2"),
    ),
    "lfm2_moe": Family(
        "LFM2 8B-A1B", "short convolutions, attention, experts",
        GROUPED | EXPERTS | {"num_hidden_layers": 4, "layer_types": CONVOLUTIONS_AND_ATTENTION},
        ("in_proj", "out_proj", "q_proj", "v_proj", "w1", "w2"),
    ),
    "granitemoehybrid": Family(
        "Granite 4 (H micro, tiny, small)", "Mamba-2, attention, experts",
        GROUPED | MAMBA | EXPERTS | {"layer_types": STATES_AND_ATTENTION, "shared_intermediate_size": 32},
        ("in_proj", "q_proj", "v_proj", "o_proj", "input_linear"),
    ),
    "falcon_h1": Family(
        "Falcon-H1 (0.5B to 34B)", "Mamba-2 beside attention in every layer",
        GROUPED | MAMBA | {"mamba_d_ssm": 64, "lm_head_multiplier": 0.5}, MAMBA_TARGETS,
    ),
    "nemotron_h": Family(
        "Nemotron-H, Nemotron Nano 2 and 3", "Mamba-2, attention, feed-forward or experts",
        {k: v for k, v in GROUPED.items() if k != "num_hidden_layers"} | {
            "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention"],
            "num_hidden_layers": 5, "head_dim": 8, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2,
            "ssm_state_size": 8, "chunk_size": 16, "n_routed_experts": 4, "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16, "time_step_min": 0.5,
        },
        MAMBA_TARGETS,
    ),
    "bamba": Family("Bamba", "Mamba-2, attention", GROUPED | MAMBA | {"attn_layer_indices": [2]}, MAMBA_TARGETS),
    "jamba": Family(
        "Jamba", "Mamba, attention, experts",
        GROUPED | EXPERTS | {
            "num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2, "mamba_d_state": 8, "mamba_dt_rank": 4,
        },
        ("in_proj", "x_proj", "q_proj", "v_proj", "o_proj"),
    ),
    "zamba2": Family(
        "Zamba2", "Mamba-2, shared attention",
        SIZES | {
            "num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
            "mamba_ngroups": 1, "mamba_d_state": 8, "n_mamba_heads": 8, "chunk_size": 16, "num_mem_blocks": 2,
            "adapter_rank": 4, "use_mem_rope": True, "time_step_min": 0.5,
        },
        ("in_proj", "q_proj", "v_proj", "o_proj", "down_proj"),
    ),
    "olmo_hybrid": Family("OLMo hybrid", "gated delta rule, attention", GROUPED | DELTA, ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")),
    "kimi_linear": Family(
        "Kimi Linear", "delta rule with a gate per channel, latent attention, experts",
        GROUPED | EXPERTS | {
            "num_hidden_layers": 4, "layer_types": STATES_AND_ATTENTION, "linear_head_dim": 8, "linear_num_heads": 4,
            "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
        },
        ("q_proj", "v_proj", "o_proj", "kv_b_proj"),
    ),
    "recurrent_gemma": Family(
        "RecurrentGemma (2B, 9B)", "gated linear recurrences, attention within a window",
        SIZES | {
            "num_hidden_layers": 4, "num_key_value_heads": 1, "attention_window_size": 64, "lru_width": 32,
            "logits_soft_cap": 1.0, "w_init_variance_scale": 1.0,
        },
        ("linear_x", "linear_y", "linear_out", "q_proj", "v_proj", "down_proj"),
    ),
    "llama4_text": Family(
        "Llama 4, used text-only", "attention in chunks, experts",
        GROUPED | EXPERTS | {
            "num_hidden_layers": 4, "head_dim": 8, "attention_chunk_size": 16, "intermediate_size_mlp": 64,
            "num_experts_per_tok": 1, "no_rope_layers": [1, 1, 1, 0],
        },
        ("q_proj", "k_proj", "v_proj", "o_proj"),
    ),
    "opt": Family(
        "OPT", "attention, learned positions",
        SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0}, ("q_proj", "v_proj", "out_proj", "fc1", "fc2"),
    ),
    "llama": Family("Llama 2 and 3, SmolLM2", "attention", GROUPED),
    "qwen2": Family("Qwen2, Qwen2.5", "attention with biases", GROUPED),
    "qwen3": Family("Qwen3", "attention with normed queries and keys", GROUPED | {"head_dim": 8}),
    "qwen3_moe": Family(
        "Qwen3 MoE", "attention, experts", GROUPED | EXPERTS | {"head_dim": 8}, ("q_proj", "k_proj", "v_proj", "o_proj")
    ),
    "gemma3_text": Family(
        "Gemma 3 (text)", "attention, three of four within a window",
        GROUPED | {"num_hidden_layers": 4, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
    ),
    "mistral": Family("Mistral 7B", "attention within a window", GROUPED | {"head_dim": 8, "sliding_window": 8}),
    "phi3": Family("Phi-3", "attention, joined projections", GROUPED, ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "olmo2": Family("OLMo 2", "attention, norms behind the layers", GROUPED),
    "smollm3": Family("SmolLM3", "attention, every fourth layer without positions", GROUPED | {"num_hidden_layers": 4}),
    "granite": Family("Granite 3", "attention, scaled", GROUPED | {"logits_scaling": 8.0, "residual_multiplier": 0.2}),
    "gpt_oss": Family(
        "gpt-oss", "attention with sinks, half of it within a window, experts",
        GROUPED | EXPERTS | {"head_dim": 8, "sliding_window": 8}, ("q_proj", "k_proj", "v_proj", "o_proj"),
    ),
    "doge": Family("Doge", "attention under a mask per head", GROUPED, ("q_proj", "k_proj", "v_proj", "o_proj")),
}  # fmt: skip


def save(folder: Path, name: str, seed: int = 0, shape: dict[str, Any] | None = None) -> Path:
    """A model of random weights of one family, and a character tokenizer.

    Args:
        folder: Where to.
        name: Of the family.
        seed: Of the weights.
        shape: Arguments of the configuration of a model that is no family here.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config_of(name, shape)).save_pretrained(folder)
    character_tokenizer(reverse=False, chat=False).save_pretrained(folder)
    return folder


def config_of(name: str, shape: dict[str, Any] | None = None) -> Any:
    """The configuration of the model that :func:`save` makes."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[name]
    known = set(getattr(kind, "__dataclass_fields__", ())) | set(getattr(kind, "attribute_map", ()))
    vocabulary = {"vocab_size": len(character_tokenizer(reverse=False, chat=False))}
    shape = SPECIALS | vocabulary | (FAMILIES[name].shape if shape is None else shape) | SPREAD
    return kind(**{k: v for k, v in shape.items() if k in known})
