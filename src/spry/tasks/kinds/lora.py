"""Low-rank adaptation, of which A and B are trained, or A alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.tasks import targets
from spry.tasks.kinds.kind import (
    WRAPPER,
    Head,
    Kind,
    OutputGradients,
    adapted_layers,
    common,
    full,
    transposed,
)
from spry.tasks.models import Backbone
from spry.tasks.singular import base_shape, base_weight, check_rank, leading, left_singular


@dataclass(frozen=True, kw_only=True)
class Lora(Kind):
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

    maps: ClassVar[bool] = True
    tops: ClassVar[bool] = True
    sleeps: ClassVar[Mapping[str, str]] = MappingProxyType({"lora_A": "lora_B"})

    def __post_init__(self) -> None:
        for name, fits, allowed in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
        ):
            if not fits:
                raise ModelError(f"LoRA's {name} is {getattr(self, name)}. Allowed: {allowed}.")

    def config(self, backbone: Backbone, head: Head, key: Key) -> Any:
        """Write the configuration of ``peft``'s LoRA."""
        from peft import LoraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        found = full(backbone, targets.find(pretrained, self.targets))
        return LoraConfig(
            **common(head),
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft multiplies by it and takes any number
            lora_dropout=self.dropout,
            target_modules=targets.endings([*found, *head.maps], targets.linear_names(backbone.model)),
            fan_in_fan_out=transposed(backbone, found),
        )

    @torch.no_grad()
    def start(self, module: nn.Module, head: Head, key: Key) -> None:
        """Draw ``A ~ U(-1/sqrt(D_in), 1/sqrt(D_in))``; ``B`` is 0."""
        for name, weight in module.named_parameters():
            if "lora_A" in name.split("."):
                bound = 1 / math.sqrt(weight.shape[1])
                drawn = key.generator(name).uniform(-bound, bound, size=tuple(weight.shape))
                weight.copy_(torch.from_numpy(drawn))


@dataclass(frozen=True, kw_only=True)
class LoraA(Lora):
    """Low-rank adaptation that trains ``A`` alone: ``y = W x + (alpha / rank) B A x`` with ``A = 0`` at the start.

    Named for the matrix that is trained. ``B`` is frozen, so of the gradient of ``W`` only the part in its columns can
    be followed. With ``basis = "weight"`` these are the leading left singular vectors of ``W``; with ``"gradient"`` the
    leading directions of the gradients by the layer's output on random text, which the model determines far more than
    the text does. They hold several times as much of the gradient, and let the noise of an estimate do more harm. Each
    column has the length ``sqrt(D_out / (3 D_in))``: steps of one size in every weight then change ``W`` by as much as
    LoRA's first ones do. What is trained has few outputs, ``rank`` numbers a token, and wide inputs: the shape that
    activation directions estimate best.

    Args:
        rank: Rows of ``A``, from 1 to the smaller side of ``W``.
        alpha: Scale of the update, above 0.
        dropout: Chance that an input of ``A`` is dropped while training, from 0 to below 1.
        targets: Names or endings of names of the modules to adapt; None finds query and value projections.
        basis: What the columns of ``B`` are.

    Raises:
        ModelError: If a setting lies outside its range.

    Source:
        Zhu et al. 2024 (arXiv 2402.16842) compare training ``A`` and ``B`` alone, with a random ``B``; LoRA-XS (arXiv
        2405.17604) takes singular vectors of the weight, LoRA-GA (arXiv 2407.05000) those of a gradient on data. That
        random text will do is ours.
    """

    basis: Literal["weight", "gradient"] = "weight"

    @torch.no_grad()
    def start(self, module: nn.Module, head: Head, key: Key) -> None:
        """``A`` is 0 and ``B`` frozen, at singular vectors if that is the basis. The head's maps start as LoRA does."""
        super().start(module, head, key)
        for layer, weight in lora_layers(module, head, self.rank):
            for down, up in zip(layer.lora_A.values(), layer.lora_B.values(), strict=True):
                down.weight.zero_()
                up.weight.requires_grad_(False)
                if self.basis == "weight":
                    up.weight.copy_(left_singular(weight, self.rank) * _length(base_shape(layer)))

    @torch.no_grad()
    def settle(self, module: nn.Module, head: Head, gradients: OutputGradients) -> list[str]:
        """Lay ``B`` along gradients if that is the basis; beyond what these span, along singular vectors of ``W``."""
        if self.basis == "weight":
            return []
        layers = {
            f"{name}.lora_B.{adapter}.weight": (layer, up)
            for name, layer in _below(module, head)
            for adapter, up in layer.lora_B.items()
        }
        found = gradients(list(layers))
        for name, (layer, up) in layers.items():
            rows = found[name]
            if not rows.isfinite().all():
                raise ModelError(
                    f"gradients on random text by the outputs of {name.removeprefix(WRAPPER)!r} are not finite: set "
                    "peft.basis = 'weight', or another model.dtype"
                )
            if len(rows) < self.rank:
                weight = base_weight(layer).mT.to(rows)
                rows = torch.cat([rows, weight * (_LITTLE * (rows.norm() or 1.0) / weight.norm())])
            up.weight.copy_(leading(rows, self.rank) * _length(base_shape(layer)))
        return list(layers)


_LITTLE = 1e-4
"""How large the weight is beside gradients that span too few directions."""


def _length(shape: tuple[int, int]) -> float:
    return math.sqrt(shape[0] / (3 * shape[1]))


def _below(module: nn.Module, head: Head) -> Iterator[tuple[str, Any]]:
    """The adapted layers that are not the head's."""
    names = (name for name in adapted_layers(module) if not head.owns(name))
    return ((name, module.get_submodule(name)) for name in names)


def lora_layers(module: nn.Module, head: Head, rank: int) -> list[tuple[Any, torch.Tensor]]:
    """Pair the LoRA layers that are not the head's with the pretrained weights below them.

    Args:
        module: A ``PeftModel``.
        head: What every client trains.
        rank: How many singular vectors of each weight are wanted.

    Returns:
        Layers of ``peft`` and their ``W``, shape (D_out, D_in).

    Raises:
        ModelError: If a weight has not so many singular vectors.
    """
    found = []
    for name, layer in _below(module, head):
        weight = base_weight(layer)
        check_rank(rank, weight, name.removeprefix(WRAPPER))
        found.append((layer, weight))
    return found
