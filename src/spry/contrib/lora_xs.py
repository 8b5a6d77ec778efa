"""LoRA-XS: a square matrix of r x r numbers between frozen singular vectors, the fewest weights of all kinds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spry.contrib.lora_frozen_b import lora_layers
from spry.contrib.singular import left_singular
from spry.core.keys import Key
from spry.core.params import Params
from spry.models.adapters.adapter import HeadModules
from spry.models.adapters.lora import Lora
from spry.models.adapters.registry import register_adapter


@register_adapter("lora_xs")
@dataclass(frozen=True, kw_only=True)
class LoraXs(Lora):
    """Low-rank adaptation that trains ``R`` alone: ``y = W x + (alpha / rank) U R V' x`` with ``R = 0`` at the start.

    ``V`` holds the leading right singular vectors of ``W``, and ``U`` the left ones times ``sqrt(D_out / (3 rank))``:
    steps of one size in every weight then change ``W`` by as much as LoRA's first ones do. It is saved as plain LoRA
    with ``A = R V'`` and ``B = U``.

    Args:
        rank: Rows and columns of ``R``, from 1 to the smaller side of ``W``.
        alpha: Scale of the update, above 0.
        dropout: Chance that an input of ``V'`` is dropped while training, from 0 to below 1.
        targets: Names or endings of names of the modules to adapt; None finds query and value projections.

    Raises:
        ModelError: If a setting lies outside its range.

    Source:
        Balazy et al. 2024 (LoRA-XS, arXiv 2405.17604), with singular values in ``U`` and a small random ``R``. Here the
        columns have one length, and the model starts as it was.
    """

    @torch.no_grad()
    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        """Freeze ``U`` and ``V``; ``R`` is 0 and takes the place of LoRA's ``A``, under its name."""
        super().init_weights(module, head, key)
        for layer, weight, rank in lora_layers(module, head):
            length = math.sqrt(weight.shape[0] / (3 * rank))
            right = left_singular(weight.T, rank).T
            for name, up in layer.lora_B.items():
                up.weight.copy_(left_singular(weight, rank) * length)
                up.weight.requires_grad_(False)
                layer.lora_A[name] = Between(right.to(up.weight))

    def to_save(self, module: nn.Module, weights: Params) -> Params:
        """Multiply out ``A = R V'``."""
        plain = dict(weights)
        for name in weights:
            between = module.get_submodule(name.rpartition(".")[0])
            if isinstance(between, Between):
                plain[name] = weights[name] @ between.right
        return plain


class Between(nn.Module):
    """``z = R V' x``, in the place of LoRA's ``A``; ``right`` is ``V'``, shape (r, D_in), frozen."""

    right: Tensor

    def __init__(self, right: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(right.new_zeros(len(right), len(right)))
        self.register_buffer("right", right, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``z``, shape (..., r), of x, shape (..., D_in)."""
        return F.linear(F.linear(x, self.right), self.weight)
