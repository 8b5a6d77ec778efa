"""Weights of the model itself that are set free: its biases, or its norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.tasks import targets
from spry.tasks.kinds.kind import Head, Kind, common, full, transposed
from spry.tasks.models import Backbone


@dataclass(frozen=True, kw_only=True)
class BitFit(Kind):
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

    def config(self, backbone: Backbone, head: Head, key: Key) -> Any:
        """Write the configuration of a LoRA that carries the biases."""
        from peft import LoraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        if not any(_free(name, self.targets) for name, _ in pretrained.named_parameters()):
            raise ModelError(
                f"{backbone.name} has no such biases to train. Choose another peft.kind, for example 'norm'."
            )
        carrier = full(backbone, targets.find(pretrained)[-1:])
        return LoraConfig(
            **common(head),
            r=1,
            bias="all",
            target_modules=carrier,
            fan_in_fan_out=transposed(backbone, carrier),
        )

    @torch.no_grad()
    def start(self, module: nn.Module, head: Head, key: Key) -> None:
        """Freeze the LoRA at 0, and biases that were not asked for."""
        for name, weight in module.named_parameters():
            if "lora_A" in name.split("."):
                weight.zero_()
            if "modules_to_save" not in name.split(".") and not _free(name, self.targets):
                weight.requires_grad_(False)


def _free(name: str, wanted: Sequence[str] | None) -> bool:
    owner, _, last = name.replace(".base_layer", "").rpartition(".")
    return last == "bias" and (wanted is None or any(f".{owner}".endswith(f".{end}") for end in wanted))


@dataclass(frozen=True, kw_only=True)
class Norm(Kind):
    """The weights and biases of the pretrained part's norms are trained, through ``peft``'s LayerNorm tuning.

    Args:
        targets: Names or endings of names of the norms; None takes all.

    Raises:
        ModelError: If there is no such norm.

    Source:
        Zhao et al. 2024 (arXiv 2312.11420).
    """

    def config(self, backbone: Backbone, head: Head, key: Key) -> Any:
        """Write the configuration of ``peft``'s LayerNorm tuning."""
        from peft import LNTuningConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        return LNTuningConfig(
            **common(head), target_modules=full(backbone, targets.norms(pretrained, self.targets))
        )
