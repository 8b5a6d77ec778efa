"""The leading singular vectors of a weight, which adapters with frozen parts are built on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError


def left_singular(weight: Tensor, rank: int) -> Tensor:
    """Compute the singular vectors of the largest singular values, ``U_r`` of ``W = U S V'``.

    They are the eigenvectors of ``W W'``; each is turned so that its largest entry is positive, which makes them unique
    where singular values differ.

    Args:
        weight: ``W``, shape (D_out, D_in).
        rank: ``r``, from 1 to the smaller side of ``W``.

    Returns:
        Orthonormal columns, shape (D_out, r), float64 on the CPU.
    """
    w = weight.detach().to("cpu", torch.float64)
    assert 1 <= rank <= min(w.shape)
    return _turned(torch.linalg.eigh(w @ w.T).eigenvectors[:, -rank:].flip(1))


def _turned(columns: Tensor) -> Tensor:
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))
    return columns * largest.sign()


def base_weight(layer: Any) -> Tensor:
    """Read the pretrained weight below a PEFT layer, dequantised, as rows of outputs.

    Args:
        layer: A LoRA layer of ``peft``.

    Returns:
        ``W``, shape (D_out, D_in).
    """
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(layer.get_base_layer())
    return weight.T if getattr(layer, "fan_in_fan_out", False) else weight


def base_shape(layer: Any) -> tuple[int, int]:
    """Read the shape of the pretrained weight below a PEFT layer, without dequantising it.

    Args:
        layer: A LoRA layer of ``peft``.

    Returns:
        ``(D_out, D_in)``.
    """
    return layer.out_features, layer.in_features


def check_rank(rank: int, weight: Tensor, name: str) -> None:
    """Refuse a rank that a weight has not.

    Args:
        rank: What was asked for.
        weight: Shape (D_out, D_in).
        name: The module's name.

    Raises:
        ModelError: If there are not so many singular vectors.
    """
    if rank > min(weight.shape):
        raise ModelError(
            f"peft.rank is {rank}, but the weight of {name!r} has the shape {tuple(weight.shape)}. "
            f"Allowed: 1 to {min(weight.shape)}."
        )
