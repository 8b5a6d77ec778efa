"""Bytes of a model's weights and buffers, by what they are."""

from __future__ import annotations

import re

from torch import Tensor, nn

from spry.models.quantized.kinds import KINDS, Quantization


def weight_bytes(model: nn.Module, *, quantization: Quantization | None = None) -> dict[str, int]:
    """Count the bytes of ``body`` (frozen layers, with scales), ``embeddings``, ``head``, ``lora`` and ``buffers``.

    With a ``quantization``, linear layers of the body count as if they were packed so.
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
        if quantization and kind == "body" and weight.ndim == 2:
            sizes[kind] += round(weight.numel() * KINDS[quantization].bits(weight.dtype) / 8)
        else:
            sizes[kind] += sum(t.numel() * t.element_size() for t in _parts(weight))
    sizes["buffers"] = sum(b.numel() * b.element_size() for b in model.buffers())
    return sizes


def _parts(weight: Tensor) -> list[Tensor]:
    """The tensors that a weight is kept in: itself, or its numbers and scales where it is packed."""
    names = getattr(weight, "tensor_data_names", None)
    if names is not None:  # torchao's wrapper has no memory of its own
        return [getattr(weight, name) for name in names]
    state = getattr(weight, "quant_state", None)
    nested = getattr(state, "state2", None)
    scales = [getattr(s, n, None) for s in (state, nested) for n in ("absmax", "code", "offset")]
    return [weight, *(x for x in (*scales, getattr(weight, "SCB", None)) if isinstance(x, Tensor))]
