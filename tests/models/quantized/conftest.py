"""Tiny classifiers in folders, wide enough that every kind packs them."""

from __future__ import annotations

import pytest
import torch

SIZES = {
    "llama": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "bert": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
}
PACKED = [
    (model, kind) for model in SIZES for kind in ("nf4", "int8", "int4") if (model, kind) != ("gpt2", "int4")
]
"""Models and kinds that fit: torchao packs no transposed layers."""


def tiny(model: str) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        model,
        **SIZES[model],
        vocab_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModel.from_config(config).eval()


@pytest.fixture(scope="session", autouse=True)
def _needs_packages():
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("torchao")


@pytest.fixture
def model() -> str:
    return "llama"


@pytest.fixture
def folder(model, tmp_path, tiny_tokenizer):
    """A folder with the pretrained part of a model, without a head, and a tokenizer."""
    where = tmp_path / "model"
    tiny(model).save_pretrained(where)
    tiny_tokenizer.save_pretrained(where)
    return where
