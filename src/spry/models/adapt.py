"""Adds small trainable weights to a frozen model through ``peft``, and groups them into units."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from spry.core.errors import ModelError, SpryError
from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.models.adapters.adapter import WRAPPER, Adapter, HeadModules, adapted_layers
from spry.models.last_block import last_block_maps
from spry.models.load import Backbone

Exact = Literal["head", "last_block", "nothing"]
"""What gets exact gradients where slopes are measured: the head, with it adapters of the last block, or nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """A PEFT model in which nothing requires grad, and its trainable units in model order, the head last."""

    module: Any
    units: tuple[Unit, ...]
    adapter: Adapter

    def save(self, params: Params, folder: Path) -> None:
        """Write weights, initial ones where none are given, for ``PeftModel.from_pretrained(base, folder)``."""
        weights = self.adapter.to_save(self.module, {**self.module.state_dict(), **params})
        self.module.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)


def adapt(backbone: Backbone, adapter: Adapter, key: Key, *, exact: Exact = "head") -> Adapted:
    """Add trainable weights; the model is changed in place and must not be adapted twice.

    The head becomes trainable as a whole: every layer outside the pretrained part, and a pooler that the checkpoint
    lacked.

    Args:
        exact: What gets exact gradients. With ``last_block`` the adapters of the last block belong to the head unit.

    Raises:
        ModelError: If a target fits no module, none is found, there is no such last block, or peft refuses the model.
    """
    from peft import get_peft_model

    head = _head(backbone, adapter, exact)
    with warnings.catch_warnings(), _drawing_from(key), told(backbone.name, adapter):
        warnings.simplefilter("ignore")
        module: Any = get_peft_model(backbone.model, adapter.to_peft(backbone, head, key))
        adapter.init_weights(module, head, key)
    trainable = [name for name, weight in module.named_parameters() if weight.requires_grad]
    module.requires_grad_(False)
    module.eval()
    return Adapted(module=module, units=_units(module, trainable, head, exact), adapter=adapter)


@contextmanager
def told(name: str, adapter: Adapter) -> Generator[None]:
    """Turn whatever ``peft`` raises while it adapts a model into one line."""
    try:
        yield
    except SpryError:
        raise
    except Exception as error:  # peft assumes much of a model, and raises errors of many unrelated types
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name}: peft cannot add {type(adapter).__name__} to it ({type(error).__name__}: {first}). Name modules "
            "with peft.targets, or choose another peft.kind or model."
        ) from error


@contextmanager
def _drawing_from(key: Key) -> Generator[None]:
    """Let what peft itself draws follow from the key, and leave torch's own stream where it was."""
    seed = int(key.generator("peft").integers(2**63))
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


def _head(backbone: Backbone, adapter: Adapter, exact: Exact) -> HeadModules:
    layers = _head_layers(backbone)
    if exact != "last_block":
        return HeadModules(layers=layers)
    if not adapter.adapts_maps:
        raise ModelError(
            "peft.exact = 'last_block' needs adapters of linear maps: set peft.kind = 'lora', or peft.exact = 'head'"
        )
    maps = [name for name in last_block_maps(backbone) if not HeadModules(layers=layers).owns(name)]
    if not maps:
        raise ModelError(
            f"{backbone.name} has no last block of which a single position of each text is read, so its adapters "
            "cannot get exact gradients at the memory of inference: set peft.exact = 'head'"
        )
    return HeadModules(layers=layers, maps=tuple(maps))


def _head_layers(backbone: Backbone) -> tuple[str, ...]:
    model = backbone.model
    outside = [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
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
    whole = Unit(name="head", names=tuple(in_head), size=size(in_head), head=True, exact=exact != "nothing")
    return (*units, whole)
