"""What a kind of PEFT weights is: settings, how ``peft`` adds the weights, and where they start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from spry.core.keys import Key
from spry.core.params import Params
from spry.tasks import targets
from spry.tasks.models import Backbone

WRAPPER = "base_model.model."
"""What ``peft`` puts before the names of the model's modules."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What every client trains, by exact gradients.

    Args:
        layers: Modules that are trained as a whole.
        maps: Linear modules of the pretrained part that are adapted beside them.
    """

    layers: tuple[str, ...]
    maps: tuple[str, ...] = ()

    def owns(self, name: str) -> bool:
        """Tell whether a module or weight belongs to the head.

        Args:
            name: Its name in the model, or in the ``PeftModel`` around it.

        Returns:
            True if it is one of the head's modules or lies in one.
        """
        modules = tuple(f"{module}." for module in (*self.layers, *self.maps))
        return f"{name.removeprefix(WRAPPER)}.".startswith(modules)


OutputGradients = Callable[[Sequence[str]], Mapping[str, Tensor]]
"""``names -> gradients``: names of maps' weights mapped to the gradients of losses of some random texts by the maps'
outputs, shape (N, D_out), a row a token, those that are zero left out."""


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """Which weights are added to a model, or freed in it.

    Args:
        targets: Names or endings of names of the modules to adapt; None leaves the choice to the kind.
        head: ``layer``: the head is what lies outside the pretrained part; ``top``: the maps above the last attention
            get adapters, too, which belong to the head; ``block``: so do all other maps of the last block.
    """

    targets: tuple[str, ...] | None = None
    head: Literal["layer", "top", "block"] = "layer"

    tops: ClassVar[bool] = False
    """Whether the kind can adapt maps for the head."""

    maps: ClassVar[bool] = False
    """Whether the trained weights are maps, whose outputs activation directions can move."""

    sleeps: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Which weights have no gradient while which others of the same module are zero, by what ``peft`` calls them."""

    @abstractmethod
    def config(self, backbone: Backbone, head: Head, key: Key) -> Any:
        """Write the configuration that ``peft.get_peft_model`` takes.

        Args:
            backbone: The model that will be adapted.
            head: What is trained beside the kind's own weights.
            key: Where random numbers come from.

        Returns:
            A ``peft.PeftConfig``.

        Raises:
            ModelError: If the model has nothing that this kind trains.
        """

    def start(self, module: nn.Module, head: Head, key: Key) -> None:
        """Give the added weights their initial values, and freeze those that are not trained.

        Args:
            module: The ``PeftModel``; changed in place.
            head: What every client trains.
            key: Where random values come from.
        """
        return  # peft's own values, unless a kind says otherwise

    def settle(self, module: nn.Module, head: Head, gradients: OutputGradients) -> list[str]:
        """Choose frozen weights by what the whole model does with outputs of its maps; most kinds do not.

        Args:
            module: The ``PeftModel``, started; changed in place.
            head: What every client trains.
            gradients: Tells how losses depend on outputs of maps.

        Returns:
            Names of the weights that were chosen, which may come out otherwise on another machine.
        """
        return []

    def plain(self, module: nn.Module, weights: Params) -> Params:
        """Turn weights into what PEFT's own layers would hold.

        Args:
            module: The ``PeftModel`` that they belong to.
            weights: Its weights by name.

        Returns:
            The weights to save.
        """
        return weights


def common(head: Head) -> dict[str, Any]:
    """Say what every configuration has in common.

    Args:
        head: What every client trains.

    Returns:
        Arguments of a ``peft.PeftConfig``; ``peft`` itself adds the heads of the usual names.
    """
    from peft import TaskType

    return {
        "task_type": TaskType.SEQ_CLS,
        "modules_to_save": [layer for layer in head.layers if layer not in {"classifier", "score"}],
    }


def full(backbone: Backbone, names: Sequence[str]) -> list[str]:
    """Name modules of the pretrained part from the whole model's view.

    Args:
        backbone: The model.
        names: Names within its pretrained part.

    Returns:
        Names within the model.
    """
    return [f"{backbone.model.base_model_prefix}.{name}" for name in names]


def transposed(backbone: Backbone, found: Sequence[str]) -> bool:
    """Tell whether modules hold their weights as rows of inputs, as GPT-2's do.

    Args:
        backbone: The model.
        found: Full names of linear modules.

    Returns:
        What ``peft`` calls ``fan_in_fan_out``.
    """
    linears = targets.linear_names(backbone.model)
    return not any(isinstance(linears[name], nn.Linear) for name in found)


def adapted_layers(module: nn.Module) -> list[str]:
    """List the modules that ``peft`` put in the place of the model's own.

    Args:
        module: A ``PeftModel``.

    Returns:
        Their names, in model order.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [name for name, child in module.named_modules() if isinstance(child, BaseTunerLayer)]
