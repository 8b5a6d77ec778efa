"""Tiny configurations of the model types that are tried, with random weights: two layers, 16 to 32 wide, 64 words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMMON: Mapping[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_range": 0.2,
    "use_cache": False,
}
"""What most configurations know; a family that calls it otherwise says so, and leaves out what it refuses (None)."""

_EMBED = {"embedding_size": 8}
_GROUPED = {"num_key_value_heads": 1}
_WINDOW = {**_GROUPED, "head_dim": 8, "sliding_window": 16}
_D_MODEL = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
}
_D_MODEL |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 2}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48, "rotary_dim": 4}
_EXPERTS = {"num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LOCAL = {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = _EXPERTS | {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
_JAMBA = {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}
_JAMBA |= {"use_mamba_kernels": False, "mamba_d_state": 4}
_LLAMA4 = {"num_local_experts": 2, "no_rope_layers": [1, 1], "intermediate_size_mlp": 24, "head_dim": 8}
_NEXT = {
    "head_dim": 8,
    "shared_expert_intermediate_size": 24,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
_XLSTM = {"chunkwise_kernel": "chunkwise--native_autograd", "sequence_kernel": "native_sequence__native"}

SIZES: Mapping[str, Mapping[str, Any]] = {
    # encoders
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "albert": _EMBED,
    "electra": _EMBED,
    "mpnet": {},
    "deberta-v2": {"pooler_hidden_size": 16, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "modernbert": {"num_hidden_layers": 3},
    "nomic_bert": {},
    "convbert": _EMBED | {"conv_kernel_size": 3, "head_ratio": 1},
    "rembert": {"input_embedding_size": 8, "output_embedding_size": 16},
    "mobilebert": _EMBED | {"intra_bottleneck_size": 16, "true_hidden_size": 16},
    "squeezebert": _EMBED | {"embedding_size": 16, "q_groups": 1, "k_groups": 1, "v_groups": 1},
    "funnel": {
        "d_model": 16,
        "n_head": 2,
        "d_head": 8,
        "d_inner": 24,
        "block_sizes": [1, 1],
        "num_decoder_layers": 1,
        "num_hidden_layers": None,
    },
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24, "max_position_embeddings": None},
    "fnet": {},
    "longformer": {"attention_window": [4, 4]},
    "big_bird": {"attention_type": "original_full"},
    # encoder-decoders
    "t5": _T5,
    "mt5": _T5 | {"feed_forward_proj": "gated-gelu"},
    "bart": _D_MODEL,
    "mbart": _D_MODEL,
    # decoders
    "gpt2": _GPT,
    "gptj": _GPT,
    "gpt_neo": {
        "num_layers": 2,
        "num_heads": 2,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
    },
    "gpt_neox": {},
    "gpt_bigcode": _GPT,
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "bloom": {"n_head": 2, "n_layer": 2},
    "falcon": {},
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2, "expansion_ratio": 2, "max_seq_len": 48},
    "biogpt": {},
    "llama": _GROUPED,
    "llama4_text": _LLAMA4 | {"num_key_value_heads": 2, "interleave_moe_layer_step": 2},
    "mistral": _GROUPED | {"sliding_window": 4},
    "qwen2": _GROUPED,
    "qwen3": _GROUPED | {"head_dim": 8},
    "gemma": _GROUPED | {"head_dim": 8},
    "gemma2": _WINDOW,
    "gemma3_text": _WINDOW,
    "phi": {},
    "phi3": _GROUPED,
    "glm4": _GROUPED | {"head_dim": 8},
    "smollm3": _GROUPED,
    "granite": _GROUPED,
    "cohere2": _GROUPED | {"sliding_window": 4},
    "stablelm": {"num_key_value_heads": 2},
    "starcoder2": _GROUPED,
    "olmo2": _GROUPED,
    "persimmon": {},
    # recurrences
    "mamba": {"state_size": 4},
    "rwkv": {"attention_hidden_size": 16},
    "xlstm": _XLSTM | {"step_kernel": "native", "num_heads": 2},
    # experts, latent attention
    "mixtral": _LOCAL,
    "qwen2_moe": _EXPERTS | {"shared_expert_intermediate_size": 24},
    "qwen3_moe": _EXPERTS | {"head_dim": 8},
    "olmoe": _EXPERTS,
    "gpt_oss": _LOCAL | {"head_dim": 8},
    "phimoe": _LOCAL,
    "granitemoe": _LOCAL,
    "jamba": _EXPERTS | _JAMBA,
    "minimax": _LOCAL | {"head_dim": 8},
    "glm4_moe": _LATENT | {"head_dim": 8},
    "qwen3_next": _EXPERTS | _NEXT,
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "youtu": _LATENT,
}
"""By transformers' model type, what differs from ``COMMON``."""


def configuration(kind: str, **more: Any) -> Any:
    """Make the configuration of a model type."""
    from transformers import AutoConfig

    sizes = {**COMMON, **SIZES[kind], **more}
    return AutoConfig.for_model(kind, **{name: value for name, value in sizes.items() if value is not None})
