"""BitFit: the model's own biases are set free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters.adapter import Adapter, HeadModules, shared_arguments
from spry.models.adapters.registry import register_adapter
from spry.models.load import Backbone


@register_adapter("bitfit")
@dataclass(frozen=True, kw_only=True)
class BitFit(Adapter):
    """Every bias of the pretrained part is trained, nothing else.

    ``peft`` has no such kind, but its LoRA saves and loads all biases if asked to (``bias = "all"``). So this is a
    LoRA of no module.

    Args:
        targets: Names or endings of names of the modules whose biases are trained; None takes all.

    Raises:
        ModelError: If there are no biases.

    Source:
        Ben Zaken et al. 2022 (BitFit, arXiv 2106.10199).
    """

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import LoraConfig
        from peft.utils.constants import DUMMY_TARGET_MODULES

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        if not any(_free(name, self.targets) for name, _ in pretrained.named_parameters()):
            raise ModelError(
                "there are no such biases to train. Choose another peft.kind, for example 'norm'."
            )
        return LoraConfig(
            **shared_arguments(backbone, head),
            r=1,
            bias="all",
            target_modules=DUMMY_TARGET_MODULES,
        )

    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        """Freeze biases that were not asked for."""
        for name, weight in module.named_parameters():
            if "modules_to_save" not in name.split(".") and not _free(name, self.targets):
                weight.requires_grad_(False)


def _free(name: str, wanted: Sequence[str] | None) -> bool:
    owner, _, last = name.rpartition(".")
    return last == "bias" and (wanted is None or any(f".{owner}".endswith(f".{end}") for end in wanted))
