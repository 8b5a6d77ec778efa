"""Adds small trainable weights to a frozen model through ``peft``, and groups them into units."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.unit import Unit
from spry.tasks import targets
from spry.tasks.models import Backbone
from spry.tasks.singular import base_weight, check_rank, left_singular

_WRAPPER = "base_model.model."


@dataclass(frozen=True, kw_only=True)
class Lora:
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
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, fits, allowed in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "above 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to below 1"),
        ):
            if not fits:
                raise ModelError(f"LoRA's {name} is {getattr(self, name)}. Allowed: {allowed}.")


@dataclass(frozen=True, kw_only=True)
class LoraA(Lora):
    """Low-rank adaptation that trains ``A`` alone: ``y = W x + (alpha / rank) B A x`` with ``A = 0`` at the start.

    Named for the matrix that is trained. ``B`` is frozen at the leading left singular vectors of ``W``, the directions
    in which the layer's output moves most. Each column has the length ``sqrt(D_out / (3 D_in))``: steps of one size in
    every weight then change ``W`` by as much as LoRA's first ones do. What is trained has few outputs, ``rank``
    numbers a token, and wide inputs: the shape that activation directions estimate best.

    Args:
        rank: Rows of ``A``, from 1 to the smaller side of ``W``.
        alpha: Scale of the update, above 0.
        dropout: Chance that an input of ``A`` is dropped while training, from 0 to below 1.
        targets: Names or endings of names of the modules to adapt; None finds query and value projections.

    Raises:
        ModelError: If a setting lies outside its range.

    Source:
        Zhu et al. 2024 (arXiv 2402.16842) compare training ``A`` and ``B`` alone, with a random ``B``; LoRA-XS (arXiv
        2405.17604) takes singular vectors.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A model with trainable weights added to it; nothing in it requires grad.

    Args:
        module: The ``PeftModel``.
        units: Its trainable weights by module, in model order, the head last.
    """

    module: Any
    units: tuple[Unit, ...]


def adapt(backbone: Backbone, method: Lora, key: Key) -> Adapted:
    """Add a PEFT method's trainable weights; the model is changed in place and must not be adapted twice.

    The head becomes trainable as a whole: every layer outside the pretrained part, and a pooler that the
    checkpoint lacked.

    Args:
        backbone: A frozen classifier.
        method: Which weights to add.
        key: Where random initial weights come from: ``A ~ U(-1/sqrt(D_in), 1/sqrt(D_in))``.

    Returns:
        The adapted model and its units.

    Raises:
        ModelError: If a target fits no module, or none is found.
    """
    from peft import get_peft_model

    heads = _heads(backbone)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        module = get_peft_model(backbone.model, _lora_config(backbone, method, heads))
    if isinstance(method, LoraA):
        _freeze_up_projections(module, method.rank)
    trainable = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if not isinstance(method, LoraA):
        _redraw(trainable, key)
    module.requires_grad_(False)
    module.eval()
    return Adapted(module=module, units=_units(module, list(trainable), heads))


def _lora_config(backbone: Backbone, method: Lora, heads: list[str]) -> Any:
    from peft import LoraConfig, TaskType

    linears = targets.linear_names(backbone.model)
    pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
    found = [
        f"{backbone.model.base_model_prefix}.{name}" for name in targets.find(pretrained, method.targets)
    ]
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=method.rank,
        lora_alpha=method.alpha,  # type: ignore[arg-type]  # peft multiplies by it and takes any number
        lora_dropout=method.dropout,
        target_modules=targets.endings(found, linears),
        fan_in_fan_out=not any(isinstance(linears[name], nn.Linear) for name in found),
        modules_to_save=[
            head for head in heads if head not in {"classifier", "score"}
        ],  # peft adds these two
    )


def _heads(backbone: Backbone) -> list[str]:
    model = backbone.model
    outside = [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]
    poolers = {
        name[: name.index("pooler") + len("pooler")]
        for name in backbone.fresh
        if name.startswith(f"{model.base_model_prefix}.")
    }
    return sorted(poolers) + outside


@torch.no_grad()
def _redraw(trainable: dict[str, Tensor], key: Key) -> None:
    for name, weight in trainable.items():
        if "lora_A" in name.split("."):
            bound = 1 / math.sqrt(weight.shape[1])
            drawn = key.generator(name).uniform(-bound, bound, size=tuple(weight.shape))
            weight.copy_(torch.from_numpy(drawn))


@torch.no_grad()
def _freeze_up_projections(module: nn.Module, rank: int) -> None:
    for name in _owners(module):
        layer: Any = module.get_submodule(name)
        weight = base_weight(layer)
        check_rank(rank, weight, _plain(name))
        for down, up in zip(layer.lora_A.values(), layer.lora_B.values(), strict=True):
            down.weight.zero_()
            up.weight.copy_(left_singular(weight, rank) * math.sqrt(weight.shape[0] / (3 * weight.shape[1])))
            up.weight.requires_grad_(False)


def _units(module: nn.Module, names: list[str], heads: list[str]) -> tuple[Unit, ...]:
    owners = _owners(module)
    in_head = [name for name in names if _plain(name).startswith(tuple(f"{head}." for head in heads))]
    grouped: dict[str, list[str]] = {}
    for name in names:
        if name not in in_head:
            owner = next((o for o in owners if name.startswith(f"{o}.")), name.rpartition(".")[0])
            grouped.setdefault(_plain(owner), []).append(name)

    def size(members: list[str]) -> int:
        return sum(module.get_parameter(name).numel() for name in members)

    units = [Unit(name=owner, names=tuple(own), size=size(own)) for owner, own in grouped.items()]
    return (*units, Unit(name="head", names=tuple(in_head), size=size(in_head), head=True))


def _owners(module: nn.Module) -> list[str]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [name for name, child in module.named_modules() if isinstance(child, BaseTunerLayer)]


def _plain(name: str) -> str:
    return name.removeprefix(_WRAPPER)
