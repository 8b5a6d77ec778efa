"""Well-known architectures by name: their sizes, from which a model with random weights is built without a download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spry.core.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of one architecture.

    Args:
        sizes: Settings of its configuration that differ from the family's defaults.
        targets: Names of the query and value projections that LoRA is put on.
        depth: The setting that holds the number of layers.
    """

    family: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("query", "value")
    depth: str = "num_hidden_layers"


def _bert(family: str, layers: int, hidden: int, heads: int, **sizes: Any) -> Architecture:
    wide = {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
    return Architecture(family=family, sizes={"num_hidden_layers": layers, **wide, **sizes})


def _llama(layers: int, hidden: int, heads: int, inner: int, groups: int) -> Architecture:
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": inner,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
    }
    return Architecture(family="llama", sizes=sizes, targets=("q_proj", "v_proj"))


def _opt(layers: int, hidden: int, heads: int) -> Architecture:
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "word_embed_proj_dim": hidden,
    }
    return Architecture(family="opt", sizes=sizes, targets=("q_proj", "v_proj"))


_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}

ARCHITECTURES: Mapping[str, Architecture] = {
    "minilm": _bert("bert", 6, 384, 12),
    "bert-base": _bert("bert", 12, 768, 12),
    "bert-large": _bert("bert", 24, 1024, 16),
    "roberta-base": _bert("roberta", 12, 768, 12, **_ROBERTA),
    "roberta-large": _bert("roberta", 24, 1024, 16, **_ROBERTA),
    "albert-large": _bert("albert", 24, 1024, 16, embedding_size=128, vocab_size=30000),
    "distilbert": Architecture(family="distilbert", targets=("q_lin", "v_lin"), depth="n_layers"),
    "gpt2": Architecture(family="gpt2", targets=("c_attn",), depth="n_layer"),
    "llama-1k": _llama(8, 1024, 16, 2816, 4),
    "llama2-7b": _llama(32, 4096, 32, 11008, 32),
    "opt-125m": _opt(12, 768, 12),
    "opt-1.3b": _opt(24, 2048, 32),
    "opt-6.7b": _opt(32, 4096, 32),
    "opt-13b": _opt(40, 5120, 40),
}
"""By name: the paper's, their relatives, and ``llama-1k`` (16 heads, 4 key-value heads)."""

PUBLISHED: Mapping[str, str] = {
    "FacebookAI/roberta-large": "roberta-large",
    "albert/albert-large-v2": "albert-large",
    "distilbert/distilbert-base-uncased": "distilbert",
    "google-bert/bert-large-uncased": "bert-large",
    "meta-llama/Llama-2-7b-hf": "llama2-7b",
    "facebook/opt-6.7b": "opt-6.7b",
    "facebook/opt-13b": "opt-13b",
}
"""Names on the Hub, and the architectures that have their sizes: those of the paper's models."""


def find_architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise ConfigError(f"no architecture is called {name!r}. {nearest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]
