"""An adapter's folder: all that is needed to load it and use it, with nothing of the machine that trained it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from spry.models.adapt import Adapted
from spry.models.adapters import ADAPTERS, Adapter
from spry.models.base import BASE, bring, write_base
from spry.models.load import Backbone
from spry.tasks.adapter_info import AdapterInfo, read_info
from spry.tasks.card import write_card
from spry.tasks.kind import TaskKind

ADAPTER, CARD, PEFT_CONFIG = "adapter", "README.md", "adapter_config.json"
"""The adapter's folder in a run folder, and files in it."""


def adapter_within(given: Path) -> Path | None:
    """Find the adapter's folder: that of a run folder, or the folder itself; None if neither is one."""
    return next((folder for folder in (given / ADAPTER, given) if (folder / PEFT_CONFIG).is_file()), None)


def complete_folder(
    backbone: Backbone,
    adapted: Adapted,
    folder: Path,
    kind: TaskKind,
    *,
    max_length: int | None,
    pair: bool | None,
) -> None:
    """Add to an adapter that peft has saved: its tokenizer, base, classes and card."""
    tokenizer = copy.copy(backbone.tokenizer)
    tokenizer.padding_side = "right"  # as in training
    words = tokenizer.save_pretrained(str(folder))
    info = AdapterInfo(
        spry=_version(),
        task=kind.pipeline,
        task_name=kind.name,
        task_options=kind.options_to_keep,
        kind=_kind(adapted.adapter),
        labels=backbone.label_names,
        pair=pair,
        max_length=max_length,
        dtype=str(adapted.module.get_base_model().dtype).removeprefix("torch."),
        pad_token=str(tokenizer.pad_token),
        base=write_base(backbone, adapted.module, folder),
    )
    if info.base.place == "folder":  # which makes the base a model that can be trained anew
        for file in map(Path, words):
            bring(file, folder / BASE / file.name)
    _write(info, folder, kind)


def add_facts(
    folder: Path,
    kind: TaskKind,
    *,
    text: tuple[str, ...],
    label: str,
    training: Mapping[str, str | int | float],
    scores: Mapping[str, float],
) -> None:
    """Note where an adapter comes from, and what it scored, beside it and in its card."""
    told = {"text": text, "label": label, "pair": len(text) > 1, "training": training, "scores": scores}
    _write(read_info(folder).model_copy(update=told), folder, kind)


def _version() -> str:
    try:
        return metadata.version("spry-fl")
    except metadata.PackageNotFoundError:
        return "unknown"


def _write(info: AdapterInfo, folder: Path, kind: TaskKind) -> None:
    info.write(folder)
    (folder / CARD).write_text(write_card(info, kind), encoding="utf-8")


def _kind(adapter: Adapter) -> str:
    return next((name for name, kind in ADAPTERS.items() if type(adapter) is kind), adapter.name)
