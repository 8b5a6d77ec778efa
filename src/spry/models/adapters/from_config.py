"""Any configuration of ``peft`` as an adapter, for those who bring their own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters.adapter import Adapter, HeadModules, shared_arguments
from spry.models.adapters.lora import Lora, draw_lora_a
from spry.models.adapters.registry import ADAPTERS
from spry.models.load import Backbone
from spry.models.model_class import CLASSIFIER


@dataclass(frozen=True, kw_only=True)
class FromConfig(Adapter):
    """An adapter made of a ``peft.PeftConfig``, which is copied, not changed.

    ``task`` is what peft calls the task. What it leaves open is filled in as the adapter of the table does that writes
    the same class, or else as LoRA does. A ModelError says if it is none of peft's configurations, is for another task,
    or adds tokens instead of weights.
    """

    config: Any
    task: str | None = CLASSIFIER.peft_task

    def __post_init__(self) -> None:
        from peft import PeftConfig

        if not isinstance(self.config, PeftConfig):
            raise ModelError(
                f"adapter is {self.config!r}. Give one of spry's adapters, such as Lora(rank=16), or a configuration "
                "of peft, such as peft.LoraConfig(r=16)."
            )
        if self.config.task_type not in {None, self.task}:
            raise ModelError(
                f"{self.name} has task_type = {str(self.config.task_type)!r}, but the task is {self.task}: leave it out"
            )
        if self.config.is_prompt_learning:
            raise ModelError(
                f"{self.name} adds tokens to the text, which Spry cannot train: give a configuration that adds "
                "weights, such as peft.LoraConfig(r=16)"
            )

    @property
    def name(self) -> str:
        return f"peft.{type(self.config).__name__}"

    @property
    def adapts_maps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # it depends on the configuration
        from peft import LoraConfig

        return isinstance(self.config, LoraConfig)

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        config = copy.deepcopy(self.config)
        config.inference_mode = False  # so it says if it was read beside saved weights
        for name, value in shared_arguments(backbone, head).items():
            if hasattr(config, name):
                own = getattr(config, name)
                setattr(config, name, sorted({*own, *value}) if isinstance(value, list) and own else value)
        if not isinstance(
            getattr(config, "target_modules", ""), str
        ):  # patterns and "all-linear" are peft's own words
            self._fill_targets(config, backbone, head, key)
        return config

    def _fill_targets(self, config: Any, backbone: Backbone, head: HeadModules, key: Key) -> None:
        wanted = tuple(config.target_modules or ()) or None
        kind = next((k for k in ADAPTERS.values() if k.peft_config == type(config).__name__), Lora)
        filled = kind(targets=wanted).to_peft(backbone, head, key)
        config.target_modules = filled.target_modules
        if hasattr(config, "fan_in_fan_out"):
            config.fan_in_fan_out = filled.fan_in_fan_out
        if hasattr(config, "feedforward_modules") and (wanted is None or config.feedforward_modules is None):
            config.feedforward_modules = filled.feedforward_modules

    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        if getattr(self.config, "init_lora_weights", None) is True:
            draw_lora_a(module, key)
