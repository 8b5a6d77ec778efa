"""Low-rank adaptation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models import targets
from spry.models.adapters.adapter import Adapter, HeadModules, full_names, is_transposed, shared_arguments
from spry.models.adapters.patterns import check_patterns
from spry.models.adapters.registry import register_adapter
from spry.models.load import Backbone
from spry.models.targets import find_targets


@register_adapter("lora")
@dataclass(frozen=True, kw_only=True)
class Lora(Adapter):
    """Low-rank adaptation: ``y = W x + (alpha / rank) B A x`` with ``A`` random and ``B = 0`` at the start.

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
        Hu et al. 2022, arXiv 2106.09685.
    """

    rank: int = 1
    alpha: float = 1.0
    dropout: float = 0.0
    rank_pattern: Mapping[str, int] = field(default_factory=dict[str, int])
    alpha_pattern: Mapping[str, float] = field(default_factory=dict[str, float])

    variant: ClassVar[Mapping[str, Any]] = {}
    """What a relative of LoRA sets in peft's configuration beside LoRA's own settings."""
    adapts_maps: ClassVar[bool] = True
    peft_config: ClassVar[str | None] = "LoraConfig"

    def __post_init__(self) -> None:
        for name, fits, allowed in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
            ("rank_pattern", all(rank >= 1 for rank in self.rank_pattern.values()), "ranks of at least 1"),
            ("alpha_pattern", all(alpha > 0 for alpha in self.alpha_pattern.values()), "values above 0"),
        ):
            if not fits:
                raise ModelError(f"LoRA's {name} is {getattr(self, name)}. Allowed: {allowed}.")

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import LoraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        found = full_names(backbone, find_targets(pretrained, self.targets, embeddings=True))
        adapted = [*found, *head.maps]
        for setting in ("rank_pattern", "alpha_pattern"):
            check_patterns(setting, getattr(self, setting), adapted)
        return LoraConfig(
            **shared_arguments(backbone, head),
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft multiplies by it and takes any number
            lora_dropout=self.dropout,
            target_modules=targets.endings(adapted, targets.adaptable_names(backbone.model)),
            rank_pattern=dict(self.rank_pattern),
            alpha_pattern=dict(self.alpha_pattern),
            fan_in_fan_out=is_transposed(backbone, found),
            **self.variant,
        )

    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        draw_lora_a(module, key)


@torch.no_grad()
def draw_lora_a(module: nn.Module, key: Key) -> None:
    """Draw every ``A ~ U(-1/sqrt(D_in), 1/sqrt(D_in))`` from the key; ``B`` is 0.

    Of embeddings ``A``, whose columns are looked up, is 0, and ``B ~ N(0, 1)``.
    """
    for name, weight in module.named_parameters():
        if "lora_embedding_B" in name.split("."):
            weight.copy_(key.normal(name, tuple(weight.shape)))
        if "lora_A" in name.split("."):
            bound = 1 / math.sqrt(weight.shape[1])
            drawn = key.generator(name).uniform(-bound, bound, size=tuple(weight.shape))
            weight.copy_(torch.from_numpy(drawn))
