"""Rank-stabilized LoRA: its scale falls with the square root of the rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from spry.models.adapters.lora import Lora
from spry.models.adapters.registry import register_adapter


@register_adapter("rslora")
@dataclass(frozen=True, kw_only=True)
class RsLora(Lora):
    """Low-rank adaptation with ``y = W x + (alpha / sqrt(rank)) B A x``, so that high ranks learn as fast as low ones.

    Args:
        rank: Rows of ``A``, at least 1.
        alpha: Scale of the update, above 0.
        dropout: Chance that an input of ``A`` is dropped while training, from 0 to below 1.
        targets: Names or endings of names of the modules to adapt, linear or embeddings; None finds query and value
            projections.
        rank_pattern: Ranks of modules whose rank is another, by names, endings of names or regular expressions.
        alpha_pattern: Values of alpha likewise.

    Raises:
        ModelError: If a setting lies outside its range, or a pattern fits no module that is adapted.

    Source:
        Kalajdzievski 2023 (rsLoRA, arXiv 2312.03732).
    """

    variant: ClassVar[Mapping[str, Any]] = {"use_rslora": True}
