"""Low-rank adaptation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models import targets
from spry.models.adapters.adapter import Adapter, HeadModules, full_names, is_transposed, shared_arguments
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
        targets: Names or endings of names of the modules to adapt; None finds query and value projections.

    Raises:
        ModelError: If a setting lies outside its range.

    Source:
        Hu et al. 2022, arXiv 2106.09685.
    """

    rank: int = 1
    alpha: float = 1.0
    dropout: float = 0.0

    adapts_maps: ClassVar[bool] = True
    peft_config: ClassVar[str | None] = "LoraConfig"

    def __post_init__(self) -> None:
        for name, fits, allowed in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
        ):
            if not fits:
                raise ModelError(f"LoRA's {name} is {getattr(self, name)}. Allowed: {allowed}.")

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import LoraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        found = full_names(backbone, find_targets(pretrained, self.targets))
        return LoraConfig(
            **shared_arguments(head),
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft multiplies by it and takes any number
            lora_dropout=self.dropout,
            target_modules=targets.endings([*found, *head.maps], targets.linear_names(backbone.model)),
            fan_in_fan_out=is_transposed(backbone, found),
        )

    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        draw_lora_a(module, key)


@torch.no_grad()
def draw_lora_a(module: nn.Module, key: Key) -> None:
    """Draw every ``A ~ U(-1/sqrt(D_in), 1/sqrt(D_in))`` from the key; ``B`` is 0."""
    for name, weight in module.named_parameters():
        if "lora_A" in name.split("."):
            bound = 1 / math.sqrt(weight.shape[1])
            drawn = key.generator(name).uniform(-bound, bound, size=tuple(weight.shape))
            weight.copy_(torch.from_numpy(drawn))
