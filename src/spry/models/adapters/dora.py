"""DoRA: LoRA moves the direction of a weight's rows, and a vector their lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from spry.models.adapters.lora import Lora
from spry.models.adapters.registry import register_adapter


@register_adapter("dora")
@dataclass(frozen=True, kw_only=True)
class Dora(Lora):
    """Weight-decomposed adaptation: ``y = diag(m / |V|) V x``, ``V = W + (alpha / rank) B A``, with ``m = |W|`` at the
    start.

    ``|V|`` are the lengths of the rows of V. They count as constants in gradients, as in the paper (section 4.3), so
    slopes are those of that gradient, which is not the loss's own. ``B A`` is made as a whole in each pass.

    Its settings and their ranges are those of ``Lora``.

    Source:
        Liu et al. 2024 (DoRA, arXiv 2402.09353).
    """

    variant: ClassVar[Mapping[str, Any]] = {"use_dora": True}
