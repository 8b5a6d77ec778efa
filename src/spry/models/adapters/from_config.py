"""Any configuration of ``peft`` as an adapter, for those who bring their own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models import targets
from spry.models.adapters.adapter import Adapter, HeadModules, full_names, is_transposed, shared_arguments
from spry.models.adapters.lora import draw_lora_a
from spry.models.load import Backbone
from spry.models.targets import find_targets


@dataclass(frozen=True, kw_only=True)
class FromConfig(Adapter):
    """An adapter made of a copy of a ``peft.PeftConfig``; what it leaves open is filled in.

    Raises:
        ModelError: If it is none of peft's configurations.
    """

    config: Any

    def __post_init__(self) -> None:
        from peft import PeftConfig

        if not isinstance(self.config, PeftConfig):
            raise ModelError(
                f"adapter is {self.config!r}. Give one of spry's adapters, such as Lora(rank=16), or a configuration "
                "of peft, such as peft.LoraConfig(r=16)."
            )

    @property
    def adapts_maps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # it depends on the configuration
        from peft import LoraConfig

        return isinstance(self.config, LoraConfig)

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        config = copy.deepcopy(self.config)
        for name, value in shared_arguments(head).items():
            if hasattr(config, name) and not getattr(config, name):
                setattr(config, name, value)
        if hasattr(config, "target_modules"):
            self._fill_targets(config, backbone, head)
        return config

    def _fill_targets(self, config: Any, backbone: Backbone, head: HeadModules) -> None:
        linears = targets.linear_names(backbone.model)
        if isinstance(config.target_modules, str):
            return  # a regular expression, or "all-linear": peft's own words
        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        wanted = self.targets or (tuple(config.target_modules) if config.target_modules else None)
        found = full_names(backbone, find_targets(pretrained, wanted))
        config.target_modules = targets.endings([*found, *head.maps], linears)
        if hasattr(config, "fan_in_fan_out"):
            config.fan_in_fan_out = is_transposed(backbone, found)

    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        if getattr(self.config, "init_lora_weights", None) is True:
            draw_lora_a(module, key)
