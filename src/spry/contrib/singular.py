"""The leading singular vectors of a weight, which adapters with frozen parts are built on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError


def left_singular(weight: Tensor, rank: int) -> Tensor:
    """Compute the first r left singular vectors of a weight ``W = U S V'`` of shape (D_out, D_in).

    They are the eigenvectors of ``W W'``; each is turned so that its largest entry is positive, which makes them unique
    where singular values differ. They are columns, shape (D_out, r), float64 on the CPU; r is from 1 to the smaller
    side of W. A weight without values, on ``meta``, has columns without values there.
    """
    if weight.is_meta:
        return weight.new_empty((len(weight), rank), dtype=torch.float64)
    w = weight.detach().to("cpu", torch.float64)
    assert 1 <= rank <= min(w.shape)
    return _turned(torch.linalg.eigh(w @ w.T).eigenvectors[:, -rank:].flip(1))


def _turned(columns: Tensor) -> Tensor:
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))
    return columns * largest.sign()


def base_weight(layer: Any) -> Tensor:
    """Read the pretrained weight below a LoRA layer of ``peft``, dequantised, shape (D_out, D_in)."""
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(layer.get_base_layer())
    return weight.T if getattr(layer, "fan_in_fan_out", False) else weight


def base_shape(layer: Any) -> tuple[int, int]:
    """``(D_out, D_in)`` of the pretrained weight below a LoRA layer of ``peft``, without dequantising it."""
    return layer.out_features, layer.in_features


def check_rank(rank: int, weight: Tensor, name: str) -> None:
    """Refuse, with a ModelError, a rank that a weight has not."""
    if rank > min(weight.shape):
        raise ModelError(
            f"peft.rank is {rank}, but the weight of {name!r} has the shape {tuple(weight.shape)}. "
            f"Allowed: 1 to {min(weight.shape)}."
        )
