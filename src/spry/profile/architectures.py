"""Well-known architectures with random weights, built from configurations: nothing is downloaded.

Memory and time do not depend on the values of the weights, so measuring needs the architecture alone. A model is laid
out on the meta device and then filled weight by weight, in its own dtype or quantised at once: no full-precision
copy of it ever exists, so Llama2-7B in 4 bits is built within its own 3.6 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from spry.core.errors import ConfigError, nearest
from spry.core.keys import Key
from spry.profile.random_weights import fill_randomly, quantise_linears

HeadKind = Literal["classification", "causal-lm"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of one architecture.

    Args:
        sizes: Settings of its configuration that differ from the family's defaults.
        targets: Names of the query and value projections that LoRA is put on.
        depth: The setting that holds the number of layers.
        decoder: Whether it reads left to right, so that it can carry a language-model head.
    """

    family: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ("query", "value")
    depth: str = "num_hidden_layers"
    decoder: bool = False


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
    return Architecture(family="llama", sizes=sizes, targets=("q_proj", "v_proj"), decoder=True)


def _opt(layers: int, hidden: int, heads: int) -> Architecture:
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "ffn_dim": 4 * hidden,
        "word_embed_proj_dim": hidden,
    }
    return Architecture(family="opt", sizes=sizes, targets=("q_proj", "v_proj"), decoder=True)


_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}

ARCHITECTURES: Mapping[str, Architecture] = {
    "minilm": _bert("bert", 6, 384, 12),
    "bert-base": _bert("bert", 12, 768, 12),
    "bert-large": _bert("bert", 24, 1024, 16),
    "roberta-base": _bert("roberta", 12, 768, 12, **_ROBERTA),
    "roberta-large": _bert("roberta", 24, 1024, 16, **_ROBERTA),
    "albert-large": _bert("albert", 24, 1024, 16, embedding_size=128, vocab_size=30000),
    "distilbert": Architecture(family="distilbert", targets=("q_lin", "v_lin"), depth="n_layers"),
    "gpt2": Architecture(family="gpt2", targets=("c_attn",), depth="n_layer", decoder=True),
    "llama-1k": _llama(8, 1024, 16, 2816, 4),
    "llama2-7b": _llama(32, 4096, 32, 11008, 32),
    "opt-125m": _opt(12, 768, 12),
    "opt-1.3b": _opt(24, 2048, 32),
    "opt-6.7b": _opt(32, 4096, 32),
    "opt-13b": _opt(40, 5120, 40),
}
"""By name: the paper's, their relatives, and ``llama-1k`` (16 heads, 4 key-value heads)."""

_DROPOUT = (
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "classifier_dropout_prob",
    "dropout",
    "embd_pdrop",
    "hidden_dropout_prob",
    "resid_pdrop",
    "seq_classif_dropout",
)
_KEY = Key(0)


def build_model(
    name: str,
    *,
    layers: int | None = None,
    length: int = 512,
    head: HeadKind = "classification",
    rank: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    four_bit: bool = False,
    attention: str = "sdpa",
    key: Key = _KEY,
) -> nn.Module:
    """Build an architecture with random weights and LoRA on its query and value projections.

    Dropout is off everywhere, the key-value cache too. LoRA's up-projections are random as well: at PEFT's
    own start, zero, half of the slopes would be zero.

    Args:
        length: Positions that the model must offer, in tokens; raises the architecture's maximum if needed.
        head: The 4-class head of the paper's tasks, trainable, or the frozen language-model head.
        rank: LoRA's r (and alpha), >= 1.
        device: Where the weights live; ``meta`` for the layout alone.
        dtype: Of the frozen weights, and of the arithmetic of a 4-bit model.
        four_bit: Whether to keep the linear layers in NF4 with nested scales (needs bitsandbytes).

    Raises:
        ConfigError: If the name is unknown, or a language-model head is asked of an encoder.
    """
    from accelerate import init_empty_weights
    from peft import LoraConfig, get_peft_model

    shape, device = find_architecture(name), torch.device(device)
    if head == "causal-lm" and not shape.decoder:
        decoders = ", ".join(known for known, other in ARCHITECTURES.items() if other.decoder)
        raise ConfigError(f"{name!r} is an encoder and has no language-model head; use one of {decoders}")
    with init_empty_weights():
        model = _skeleton(shape, layers, length, head, attention, dtype)
    if four_bit:
        quantise_linears(model, dtype)
    seed = int(key.generator("shapes").integers(1 << 62))
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(seed)
    fill_randomly(model, device, dtype, generator)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=list(shape.targets),
        fan_in_fan_out=shape.family == "gpt2",
        task_type="SEQ_CLS" if head == "classification" else "CAUSAL_LM",
    )
    wrapped = get_peft_model(cast(Any, model), config)
    with torch.no_grad():
        for weight in wrapped.parameters():
            if weight.requires_grad:
                weight.normal_(0.0, 0.02, generator=generator)
    return wrapped.eval()


def find_architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise ConfigError(f"no architecture is called {name!r}. {nearest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def example_batch(model: nn.Module, batch: int, length: int, key: Key = _KEY) -> dict[str, Tensor]:
    """Draw B = ``batch`` full rows of S = ``length`` random tokens, with labels for the model's head.

    ``input_ids`` and ``attention_mask`` have shape (B, S), ``labels`` shape (B,), or (B, S) for a language model.
    """
    wrapped = cast(Any, model)
    draw = key.generator("example")
    device = next(model.parameters()).device
    tokens = torch.from_numpy(draw.integers(10, wrapped.config.vocab_size, (batch, length))).to(device)
    language = wrapped.peft_config["default"].task_type == "CAUSAL_LM"
    labels = tokens.clone() if language else torch.from_numpy(draw.integers(0, 4, (batch,))).to(device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def _skeleton(
    shape: Architecture, layers: int | None, length: int, head: HeadKind, attention: str, dtype: torch.dtype
) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    config = AutoConfig.for_model(shape.family, **shape.sizes)
    settings: dict[str, Any] = {"num_labels": 4, "use_cache": False}
    settings |= {name: 0.0 for name in _DROPOUT if hasattr(config, name)}
    if layers is not None:
        settings[shape.depth] = layers
    if getattr(config, "max_position_embeddings", 1 << 30) < length + 2:
        settings["max_position_embeddings"] = length + 2  # RoBERTa counts two more than the tokens
    if config.pad_token_id is None:
        settings["pad_token_id"] = 0
    for name, value in settings.items():
        setattr(config, name, value)
    kind = AutoModelForSequenceClassification if head == "classification" else AutoModelForCausalLM
    return kind.from_config(config, attn_implementation=attention, dtype=dtype)
