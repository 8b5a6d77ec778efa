"""Bytes of a model's weights and buffers, by what they are."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from spry.models.quantized.kinds import PACKINGS, Quantization
from spry.models.quantized.layers import can_pack, linear_layers
from spry.models.quantized.rows import kept_tensors


def weight_bytes(model: nn.Module, *, quantization: Quantization | None = None) -> dict[str, int]:
    """Count the bytes of ``body`` (frozen layers, with scales), ``embeddings``, ``head``, ``lora`` and ``buffers``.

    With a ``quantization``, those linear layers of the body that it packs count as if they were packed.
    """
    sizes: dict[str, int] = dict.fromkeys(("body", "embeddings", "head", "lora", "buffers"), 0)
    packed = set[int]() if quantization is None else _packed(model, quantization)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, weight in model.named_parameters():
        if "lora_" in name:
            kind = "lora"
        elif id(weight) in embeddings:
            kind = "embeddings"
        else:
            kind = (
                "head"
                if re.search(r"\b(classifier|score|lm_head|pre_classifier|classification_head)\b", name)
                else "body"
            )
        if quantization and kind == "body" and id(weight) in packed:
            sizes[kind] += round(weight.numel() * PACKINGS[quantization].bits(weight.dtype) / 8)
        else:
            sizes[kind] += sum(t.numel() * t.element_size() for t in kept_tensors(weight))
    sizes["buffers"] = sum(b.numel() * b.element_size() for b in model.buffers())
    return sizes


def _packed(model: nn.Module, quantization: Quantization) -> set[int]:
    """The weights that it would pack, by identity."""
    layers: list[tuple[str, Any]] = linear_layers(model)
    return {id(layer.weight) for _, layer in layers if can_pack(layer, quantization)}
