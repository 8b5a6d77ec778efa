"""Bytes of a model's weights and buffers, by what they are."""

from __future__ import annotations

import re

from torch import Tensor, nn

BYTES_PER_4_BIT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a 4-bit number: half a byte, an 8-bit scale for 64 of them, a float32 scale for 256 of those."""


def weight_bytes(model: nn.Module, *, four_bit: bool = False) -> dict[str, int]:
    """Count the bytes of ``body`` (frozen layers, with scales), ``embeddings``, ``head``, ``lora`` and ``buffers``.

    With ``four_bit``, linear layers of the body count as if they were in NF4.
    """
    sizes: dict[str, int] = dict.fromkeys(("body", "embeddings", "head", "lora", "buffers"), 0)
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
        if four_bit and kind == "body" and weight.ndim == 2:
            sizes[kind] += round(weight.numel() * BYTES_PER_4_BIT)
        else:
            sizes[kind] += sum(t.numel() * t.element_size() for t in (weight, *_scales(weight)))
    sizes["buffers"] = sum(b.numel() * b.element_size() for b in model.buffers())
    return sizes


def _scales(weight: Tensor) -> list[Tensor]:
    """Tensors that bitsandbytes keeps beside a quantised weight."""
    state = getattr(weight, "quant_state", None)
    nested = getattr(state, "state2", None)
    parts = [getattr(s, n, None) for s in (state, nested) for n in ("absmax", "code", "offset")]
    return [part for part in parts if isinstance(part, Tensor)]
