"""What an adapter is: settings, how ``peft`` adds its weights, and where they start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from spry.core.keys import Key
from spry.core.params import Params
from spry.models import targets
from spry.models.load import Backbone

WRAPPER = "base_model.model."
"""What ``peft`` puts before the names of the model's modules."""


@dataclass(frozen=True, kw_only=True)
class HeadModules:
    """The head that every client trains: layers as a whole, and linear maps of the last block, adapted with it."""

    layers: tuple[str, ...]
    maps: tuple[str, ...] = ()

    def owns(self, name: str) -> bool:
        """Tell whether a module or weight belongs to the head, by its name in the model or in the ``PeftModel``."""
        modules = tuple(f"{module}." for module in (*self.layers, *self.maps))
        return f"{name.removeprefix(WRAPPER)}.".startswith(modules)


@dataclass(frozen=True, kw_only=True)
class Adapter(ABC):
    """Which weights are added to a model, or freed in it; without targets (endings of names) it chooses modules."""

    targets: tuple[str, ...] | None = None

    adapts_maps: ClassVar[bool] = False
    """Whether it can adapt single linear maps, so that those of the last block can belong to the head."""

    peft_config: ClassVar[str | None] = None
    """The class of ``peft`` whose open settings this adapter fills, if one gives it a configuration of one's own."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @abstractmethod
    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        """Write the ``peft.PeftConfig`` for a model; ModelError if the model has nothing that this adapter trains."""

    def init_weights(self, module: nn.Module, head: HeadModules, key: Key) -> None:
        """Give the added weights their initial values, and freeze those that are not trained; peft's own by default."""
        return

    def to_save(self, module: nn.Module, weights: Params) -> Params:
        """Turn weights into what peft's own layers would hold; most adapters hold just that."""
        return weights


def shared_arguments(backbone: Backbone, head: HeadModules) -> dict[str, Any]:
    """The arguments that every ``peft.PeftConfig`` is given; ``peft`` itself adds the heads of the usual names."""
    from peft import TaskType

    kind = backbone.kind
    return {
        "task_type": None if kind.peft_task is None else TaskType(kind.peft_task),
        "modules_to_save": [layer for layer in head.layers if layer not in kind.peft_heads],
    }


def full_names(backbone: Backbone, names: Sequence[str]) -> list[str]:
    """Name modules of the pretrained part from the whole model's view."""
    return [f"{backbone.model.base_model_prefix}.{name}" for name in names]


def is_transposed(backbone: Backbone, found: Sequence[str]) -> bool:
    """Tell whether modules hold their weights as rows of inputs, as GPT-2's do: peft's ``fan_in_fan_out``."""
    linears = targets.linear_names(backbone.model)
    maps = [linears[name] for name in found if name in linears]
    return bool(maps) and not any(isinstance(module, nn.Linear) for module in maps)


def adapted_layers(module: nn.Module) -> list[str]:
    """List the modules that ``peft`` put in the place of the model's own, in model order."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [name for name, child in module.named_modules() if isinstance(child, BaseTunerLayer)]
