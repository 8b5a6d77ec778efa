"""Adds small trainable weights to a frozen model through ``peft``, and groups them into units."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.models.adapters.adapter import WRAPPER, Adapter, HeadModules, adapted_layers
from spry.models.last_block import last_block_maps, maps_of_last_block
from spry.models.load import Backbone
from spry.models.refusal import refused_as

Exact = Literal["head", "last_block", "auto", "nothing"]
"""What gets exact gradients where slopes are measured: the head; with it the last block's adapters; these if possible
(auto); or nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A ``PeftModel`` in which nothing requires grad; its trainable weights are units, the head last.

    Args:
        notes: What a user should know of how it was adapted, as sentences.
    """

    module: Any
    units: tuple[Unit, ...]
    adapter: Adapter
    notes: tuple[str, ...] = ()

    def save(self, params: Params, folder: Path) -> None:
        """Write weights so that ``PeftModel.from_pretrained(base, folder)`` reads them; initial values for the rest."""
        weights = self.adapter.to_save(self.module, {**self.module.state_dict(), **params})
        self.module.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)


def adapt(backbone: Backbone, adapter: Adapter, key: Key, *, exact: Exact = "head") -> Adapted:
    """Add trainable weights; the model is changed in place and must not be adapted twice.

    The head becomes trainable as a whole, where the model's class says so: every layer outside the pretrained part, and
    a pooler that the checkpoint lacked. With ``exact = "last_block"`` the adapters of the last block are a unit that
    every client trains, too; with ``auto``, only where there is such a block and the adapter can adapt it.

    Raises:
        ModelError: If a target fits no module, none is found, there is no such last block, or peft refuses the model.
    """
    from peft import get_peft_model

    layers = HeadModules(layers=_head_layers(backbone))
    _config(backbone, adapter, layers, key)  # refused first is what no choice of exact would mend
    head, notes = _head(layers, backbone, adapter, exact)
    config = _config(backbone, adapter, head, key)
    with warnings.catch_warnings(), _drawing_from(key), _adding(adapter, backbone):
        warnings.simplefilter("ignore")
        module: Any = get_peft_model(backbone.model, config)
        adapter.init_weights(module, head, key)
    trainable = [name for name, weight in module.named_parameters() if weight.requires_grad]
    _check_trained(trainable, head, adapter)
    module.requires_grad_(False)
    module.eval()
    return Adapted(module=module, units=_units(module, trainable, head, exact), adapter=adapter, notes=notes)


def _check_trained(names: list[str], head: HeadModules, adapter: Adapter) -> None:
    """Make sure that all of the head is trained and saved, which some of peft's configurations leave out."""
    owners = {layer: HeadModules(layers=(layer,)) for layer in head.layers}
    left = [layer for layer, owner in owners.items() if not any(owner.owns(name) for name in names)]
    if left:
        raise ModelError(
            f"{adapter.name} does not train the classifier's own {', '.join(left)}, so nothing would be learnt: choose "
            "another adapter, such as peft.LoraConfig(r=16)"
        )


@contextmanager
def _drawing_from(key: Key) -> Generator[None]:
    """Let what peft itself draws follow from the key, and leave torch's own stream where it was."""
    seed = int(key.generator("peft").integers(2**63))
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


def _config(backbone: Backbone, adapter: Adapter, head: HeadModules, key: Key) -> Any:
    try:
        with _adding(adapter, backbone):
            return adapter.to_peft(backbone, head, key)
    except ModelError as error:
        told = str(error)
        raise ModelError(told if told.startswith(backbone.name) else f"{backbone.name}: {told}") from error


def _adding(adapter: Adapter, backbone: Backbone) -> AbstractContextManager[None]:
    remedy = "Name modules with peft.targets, set peft.exact = 'head', or choose another peft.kind or model."
    if backbone.quantization == "int4":
        remedy = (
            "It may need the weights themselves, which torchao's int4 does not give back: set model.quantization = "
            "'nf4' or 'int8', or peft.kind = 'lora'."
        )
    return refused_as(f"{backbone.name}: peft cannot add {adapter.name} to it", remedy)


def _head(
    layers: HeadModules, backbone: Backbone, adapter: Adapter, exact: Exact
) -> tuple[HeadModules, tuple[str, ...]]:
    """Choose what belongs to the head; also what is to be said of the choice."""
    if exact == "head" and not layers.layers:
        told = (
            "no layer of its own is trained: a method that measures slopes measures all (peft.exact = 'head')"
        )
        return layers, (f"{backbone.name}: {told}.",)
    if exact not in {"last_block", "auto"}:
        return layers, ()
    try:
        return _with_last_block(layers, backbone, adapter), ()
    except _NoLastBlockError as error:
        if exact == "last_block":
            raise ModelError(f"{error}: {error.remedy}") from error
        return layers, (f"{error}: the head alone gets exact gradients (peft.exact = 'auto').",)


class _NoLastBlockError(Exception):
    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def _with_last_block(layers: HeadModules, backbone: Backbone, adapter: Adapter) -> HeadModules:
    if not adapter.adapts_maps:
        raise _NoLastBlockError(
            f"{adapter.name} does not adapt single linear maps, so those of the last block cannot join the head",
            "set peft.kind = 'lora', or peft.exact = 'head'",
        )
    found = last_block_maps(backbone) if backbone.kind.trains_head else maps_of_last_block(backbone)
    maps = [name for name in found if not layers.owns(name)]
    if not maps:
        raise _NoLastBlockError(
            f"{backbone.name} has no last block of which a single position of each text is read, so its adapters "
            "cannot get exact gradients at the memory of inference",
            "set peft.exact = 'head'",
        )
    return HeadModules(layers=layers.layers, maps=tuple(maps))


def _head_layers(backbone: Backbone) -> tuple[str, ...]:
    model = backbone.model
    outside = [
        name
        for name, child in model.named_children()
        if backbone.kind.trains_head
        and name != model.base_model_prefix
        and any(True for _ in child.parameters())
    ]
    poolers = {
        name[: name.index("pooler") + len("pooler")]
        for name in backbone.newly_initialized
        if name.startswith(f"{model.base_model_prefix}.")
    }
    return (*sorted(poolers), *outside)


def _units(module: nn.Module, names: list[str], head: HeadModules, exact: Exact) -> tuple[Unit, ...]:
    owners = adapted_layers(module)
    in_head = [name for name in names if head.owns(name)]
    grouped: dict[str, list[str]] = {}
    for name in names:
        if name not in in_head:
            owner = next((o for o in owners if name.startswith(f"{o}.")), name.rpartition(".")[0])
            grouped.setdefault(owner.removeprefix(WRAPPER), []).append(name)

    def size(members: list[str]) -> int:
        return sum(module.get_parameter(name).numel() for name in members)

    units = [Unit(name=owner, names=tuple(own), size=size(own)) for owner, own in grouped.items()]
    layers = [name for name in in_head if HeadModules(layers=head.layers).owns(name)]
    block = [name for name in in_head if name not in layers]
    if block:
        joined = {"head": True, "exact": True, "last_block": True}
        units.append(Unit(name="last_block", names=tuple(block), size=size(block), **joined))
    if layers:
        units.append(
            Unit(name="head", names=tuple(layers), size=size(layers), head=True, exact=exact != "nothing")
        )
    return tuple(units)
