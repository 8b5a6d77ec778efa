"""Norm tuning: the model's own norms are set free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from spry.core.keys import Key
from spry.models import targets
from spry.models.adapters.adapter import Adapter, HeadModules, full_names, shared_arguments
from spry.models.adapters.registry import register_adapter
from spry.models.load import Backbone


@register_adapter("norm")
@dataclass(frozen=True, kw_only=True)
class Norm(Adapter):
    """The weights and biases of the pretrained part's norms are trained, through ``peft``'s LayerNorm tuning.

    Args:
        targets: Names or endings of names of the norms; None takes all.

    Raises:
        ModelError: If there is no such norm.

    Source:
        Zhao et al. 2024 (arXiv 2312.11420).
    """

    peft_config: ClassVar[str | None] = "LNTuningConfig"

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import LNTuningConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        return LNTuningConfig(
            **shared_arguments(backbone, head),
            target_modules=full_names(backbone, targets.norms(pretrained, self.targets)),
        )
