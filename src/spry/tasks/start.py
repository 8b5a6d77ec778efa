"""Training that begins with the weights of an adapter: whether it fits the task, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.core.params import Params
from spry.models.adapt import Adapted
from spry.models.base import BASE, hash_base
from spry.models.load import Backbone
from spry.tasks.adapter_folder import PEFT_CONFIG
from spry.tasks.adapter_info import AdapterInfo, read_info

_DECIDES = {
    "peft_type": "peft.kind",
    "r": "peft.rank",
    "lora_alpha": "peft.alpha",
    "target_modules": "peft.targets",
    "feedforward_modules": "feedforward_modules",
    "modules_to_save": "modules_to_save",
    "use_dora": "use_dora",
    "use_rslora": "use_rslora",
    "bias": "bias",
}
"""What of peft's configuration decides which weights there are, and what they do; and how settings call it."""
_SHOWN = 5


def start_labels(folder: Path, labels: int | Sequence[str], task: str) -> tuple[str, ...]:
    """Number a task's classes as an adapter does.

    Raises:
        ModelError: If they are not the adapter's, or it is for another task.
    """
    info = read_info(folder)
    known = info.labels
    if info.task_name != task:
        raise ModelError(
            f"start is {folder}, which was trained for the task {info.task_name}; this is {task}. An adapter is "
            "trained further on the same task."
        )
    if labels == len(known) or (not isinstance(labels, int) and set(labels) == set(known)):
        return known
    given = [] if isinstance(labels, int) else list(labels)
    new, gone = [n for n in given if n not in known], [n for n in known if n not in given]
    told = f"{labels} classes" if isinstance(labels, int) else f"other classes ({_listed(new, gone)})"
    raise ModelError(
        f"start is {folder}, which tells {len(known)} classes apart; the data has {told}. An adapter is trained "
        "further on the same classes."
    )


def start_weights(adapted: Adapted, backbone: Backbone, folder: Path) -> Params:
    """Read the trainable weights of an adapter, and put what it holds of frozen ones into the model.

    Raises:
        ModelError: If base model, kind or settings of the adapter are not the task's.
    """
    from peft.utils.save_and_load import (
        get_peft_model_state_dict,
        load_peft_weights,
        set_peft_model_state_dict,
    )

    info = read_info(folder)
    _check_base(info, backbone, adapted.module, folder)
    _check_kind(adapted, folder)
    saved = load_peft_weights(str(folder), device="cpu")
    own = adapted.module.state_dict()
    names = {id(weight): name for name, weight in own.items()}
    held = get_peft_model_state_dict(adapted.module, state_dict=own, save_embedding_layers=False)
    found = {
        names[id(weight)]: saved[key] for key, weight in held.items() if key in saved and id(weight) in names
    }
    wanted = [name for unit in adapted.units for name in unit.names]
    missing = [name for name in wanted if name not in found or found[name].shape != own[name].shape]
    if missing:
        raise ModelError(
            f"start is {folder}, which lacks {len(missing)} of the weights to be trained, such as {missing[0]}, or has "
            "them in another shape. Use the settings of peft.* that it was trained with."
        )
    set_peft_model_state_dict(adapted.module, saved)
    return {name: found[name].to(own[name].device, _wider(found[name], own[name])) for name in wanted}


def _wider(one: Tensor, other: Tensor) -> torch.dtype:
    return torch.promote_types(one.dtype, other.dtype)


def _check_base(info: AdapterInfo, backbone: Backbone, module: Any, folder: Path) -> None:
    now = hash_base(backbone, module)
    if not _within(info.base.files, now):
        raise ModelError(
            f"start is {folder}, which was trained on the base model {info.base.name}; {backbone.name} has other "
            "weights. Set model.name to that base" + _copy_of(info, folder) + "."
        )


def _within(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether one of two sets of files holds the other; the copy beside an adapter has a head, too."""
    left, right = set(one.values()), set(other.values())
    return left <= right or right <= left


def _copy_of(info: AdapterInfo, folder: Path) -> str:
    return f", of which {folder / BASE} is a copy" if info.base.place == "folder" else ""


def _check_kind(adapted: Adapted, folder: Path) -> None:
    old = json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8"))
    new = adapted.module.active_peft_config.to_dict()
    changed = [
        f"{setting} was {_plain(old.get(name))}, is {_plain(new.get(name))}"
        for name, setting in _DECIDES.items()
        if _plain(old.get(name)) != _plain(new.get(name))
    ]
    if changed:
        raise ModelError(
            f"start is {folder}, whose weights are others than those to be trained: {'; '.join(changed)}. Use the "
            "settings of peft.* that it was trained with."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, set | list | tuple):
        return sorted(value)
    return str(getattr(value, "value", value)) if isinstance(value, str) else value


def _listed(new: Sequence[str], gone: Sequence[str]) -> str:
    parts = {"not known there": new, "missing here": gone}
    return "; ".join(
        f"{what}: {', '.join(names[:_SHOWN])}" + (", ..." if len(names) > _SHOWN else "")
        for what, names in parts.items()
        if names
    )
