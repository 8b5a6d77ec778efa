"""LoRA that trains ``A`` alone, between the input and frozen singular vectors of the weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spry.contrib.singular import base_shape, base_weight, check_rank, left_singular
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters.adapter import WRAPPER, HeadModules, adapted_layers
from spry.models.adapters.lora import Lora
from spry.models.adapters.registry import register_adapter


@register_adapter("lora_a")
@dataclass(frozen=True, kw_only=True)
class LoraA(Lora):
    """Low-rank adaptation that trains ``A`` alone: ``y = W x + (alpha / rank) B A x`` with ``A = 0`` at the start.

    ``B`` is frozen at the first left singular vectors of ``W``. Each column has the length ``sqrt(D_out / (3 D_in))``:
    steps of one size in every weight then change ``W`` by as much as LoRA's first ones do. What is trained has few
    outputs, ``rank`` numbers a token, and wide inputs: the shape that activation directions estimate best.

    Args:
        rank: Rows of ``A``, from 1 to the smaller side of ``W``.
        alpha: Scale of the update, above 0.
        dropout: Chance that an input of ``A`` is dropped while training, from 0 to below 1.
        targets: Names or endings of names of the modules to adapt; None finds query and value projections.

    Raises:
        ModelError: If a setting lies outside its range.

    Source:
        Zhu et al. 2024 (arXiv 2402.16842) compare training ``A`` and ``B`` alone, with a random ``B``; LoRA-XS (arXiv
        2405.17604) takes singular vectors of the weight.
    """

    @torch.no_grad()
    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        """``A`` is 0 and ``B`` frozen, at singular vectors. The head's maps start as LoRA does."""
        super().init_weights(module, head, key)
        for layer, weight, rank in lora_layers(module, head):
            rows, columns = base_shape(layer)
            for down, up in zip(layer.lora_A.values(), layer.lora_B.values(), strict=True):
                down.weight.zero_()
                up.weight.requires_grad_(False)
                up.weight.copy_(left_singular(weight, rank) * math.sqrt(rows / (3 * columns)))


def lora_layers(module: nn.Module, head: HeadModules) -> Iterator[tuple[Any, torch.Tensor, int]]:
    """List the LoRA layers that are not the head's, the pretrained weights below them, (D_out, D_in), and their ranks.

    A weight with fewer singular vectors than the rank is a ModelError, and so is an embedding.
    """
    for name in adapted_layers(module):
        if not head.owns(name):
            layer: Any = module.get_submodule(name)
            if not layer.lora_A:
                raise ModelError(f"{name.removeprefix(WRAPPER)!r} is an embedding, which has no such start")
            weight, (rank,) = base_weight(layer), layer.r.values()
            check_rank(rank, weight, name.removeprefix(WRAPPER))
            yield layer, weight, rank
