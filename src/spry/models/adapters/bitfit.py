"""BitFit: the model's own biases are set free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters.adapter import Adapter, HeadModules, full_names, is_transposed, shared_arguments
from spry.models.adapters.registry import register_adapter
from spry.models.load import Backbone
from spry.models.targets import find_targets


@register_adapter("bitfit")
@dataclass(frozen=True, kw_only=True)
class BitFit(Adapter):
    """Every bias of the pretrained part is trained, nothing else.

    ``peft`` has no such kind, but its LoRA saves and loads all biases if asked to (``bias = "all"``). So this is a
    LoRA of rank 1 on one module, whose A and B are 0 and stay so.

    Args:
        targets: Names or endings of names of the modules whose biases are trained; None takes all.

    Raises:
        ModelError: If there are no biases.

    Source:
        Ben Zaken et al. 2022 (BitFit, arXiv 2106.10199).
    """

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import LoraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        if not any(_free(name, self.targets) for name, _ in pretrained.named_parameters()):
            raise ModelError(
                "there are no such biases to train. Choose another peft.kind, for example 'norm'."
            )
        carrier = full_names(backbone, find_targets(pretrained)[-1:])
        return LoraConfig(
            **shared_arguments(backbone, head),
            r=1,
            bias="all",
            target_modules=carrier,
            fan_in_fan_out=is_transposed(backbone, carrier),
        )

    @torch.no_grad()
    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        """Freeze the LoRA at 0, and biases that were not asked for."""
        for name, weight in module.named_parameters():
            if "lora_A" in name.split("."):
                weight.zero_()
            if "modules_to_save" not in name.split(".") and not _free(name, self.targets):
                weight.requires_grad_(False)


def _free(name: str, wanted: Sequence[str] | None) -> bool:
    owner, _, last = name.replace(".base_layer", "").rpartition(".")
    return last == "bias" and (wanted is None or any(f".{owner}".endswith(f".{end}") for end in wanted))
