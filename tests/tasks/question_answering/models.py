"""Tiny random models that score the first and the last token of an answer."""

from __future__ import annotations

from typing import Any

import torch

WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
READERS: dict[str, dict[str, Any]] = {
    "bert": WIDE,
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "roberta": WIDE,
    "llama": WIDE | {"num_key_value_heads": 1, "head_dim": 8},
}
"""Settings that make each architecture tiny, by model type."""


def reader(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    sizes = READERS[kind] | {"vocab_size": 32, "max_position_embeddings": 40, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **sizes, bos_token_id=2, eos_token_id=3)
    config.initializer_range = 0.2
    config.use_cache = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForQuestionAnswering.from_config(config).eval().requires_grad_(False)
