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

    Its settings and their ranges are those of ``Lora``.

    Source:
        Kalajdzievski 2023 (rsLoRA, arXiv 2312.03732).
    """

    variant: ClassVar[Mapping[str, Any]] = {"use_rslora": True}
