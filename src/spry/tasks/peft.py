"""Adds small trainable weights to a frozen model through ``peft``, and groups them into units."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.tasks.kinds.kind import WRAPPER, Head, Kind, adapted_layers
from spry.tasks.models import Backbone
from spry.tasks.top import last_block_maps, top_maps


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A model with trainable weights added to it; nothing in it requires grad.

    Args:
        module: The ``PeftModel``.
        units: Its trainable weights by module, in model order, the head last.
        kind: What was added.
        head: What every client trains.
    """

    module: Any
    units: tuple[Unit, ...]
    kind: Kind
    head: Head

    def save(self, params: Params, folder: Path) -> None:
        """Write weights so that ``PeftModel.from_pretrained(base, folder)`` reads them.

        Args:
            params: Some or all trainable weights; the initial values are written for the rest.
            folder: Where to; made if it does not exist.
        """
        weights = self.kind.plain(self.module, {**self.module.state_dict(), **params})
        self.module.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)


def adapt(backbone: Backbone, kind: Kind, key: Key) -> Adapted:
    """Add trainable weights; the model is changed in place and must not be adapted twice.

    The head becomes trainable as a whole: every layer outside the pretrained part, and a pooler that the
    checkpoint lacked. With ``kind.head = "top"`` the adapters of the maps above the last attention belong to it, with
    ``"block"`` those of the whole last block. What a kind measures on the whole model (``Kind.settle``) is the task's.

    Args:
        backbone: A frozen classifier.
        kind: Which weights to add.
        key: Where random initial weights come from.

    Returns:
        The adapted model and its units.

    Raises:
        ModelError: If a target fits no module, none is found, or there is no such top.
    """
    from peft import get_peft_model

    head = _head(backbone, kind)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        module: Any = get_peft_model(backbone.model, kind.config(backbone, head, key))
    kind.start(module, head, key)
    trainable = [name for name, weight in module.named_parameters() if weight.requires_grad]
    module.requires_grad_(False)
    module.eval()
    return Adapted(module=module, units=_units(module, trainable, head, kind), kind=kind, head=head)


def _head(backbone: Backbone, kind: Kind) -> Head:
    layers = _layers(backbone)
    if kind.head == "layer":
        return Head(layers=layers)
    if not kind.tops:
        raise ModelError(
            f"peft.head = '{kind.head}' needs adapters of maps: set peft.kind = 'lora', 'lora_a' or 'lora_xs'"
        )
    find = top_maps if kind.head == "top" else last_block_maps
    maps = [name for name in find(backbone) if not Head(layers=layers).owns(name)]
    if not maps:
        raise ModelError(
            f"{backbone.name} has no maps above its last attention that a single position of each text passes, so "
            f"there is no {kind.head} to train with the head: set peft.head = 'layer'"
        )
    return Head(layers=layers, maps=tuple(maps))


def _layers(backbone: Backbone) -> tuple[str, ...]:
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
    return (*sorted(poolers), *outside)


def _units(module: nn.Module, names: list[str], head: Head, kind: Kind) -> tuple[Unit, ...]:
    owners = adapted_layers(module)
    in_head = [name for name in names if head.owns(name)]
    grouped: dict[str, list[str]] = {}
    for name in names:
        if name not in in_head:
            owner = next((o for o in owners if name.startswith(f"{o}.")), name.rpartition(".")[0])
            grouped.setdefault(_plain(owner), []).append(name)

    def size(members: list[str]) -> int:
        return sum(module.get_parameter(name).numel() for name in members)

    units = [
        Unit(name=owner, names=tuple(own), size=size(own))
        for owner, own in grouped.items()
    ]
    return (*units, Unit(name="head", names=tuple(in_head), size=size(in_head), head=True, exact=True))


def _plain(name: str) -> str:
    return name.removeprefix(WRAPPER)
