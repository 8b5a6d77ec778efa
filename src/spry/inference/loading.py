"""From an adapter's folder to its model: the base is found, checked, loaded and given the adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from spry.core.errors import ModelError
from spry.inference.predictor import Predictor
from spry.models.base import BASE, BaseRecord, loaded_files
from spry.models.hashes import hash_files
from spry.models.offload import Offload, stream_from_disk
from spry.models.pretrained import check_pretrained, quiet, read_tokenizer
from spry.models.quantized.layers import dequantize, has_packed
from spry.models.quantized.loading import finish, is_packed, loading_arguments
from spry.models.refusal import refused_as
from spry.models.sources import FRIENDLY, Source, find_source
from spry.tasks.adapter_info import AdapterInfo, read_info
from spry.tasks.kinds import find_task


def load_predictor(
    folder: Path,
    *,
    device: str = "cpu",
    base: Path | None = None,
    dtype: str | None = None,
    unpacked: bool = False,
    offload: Offload | None = None,
) -> Predictor:
    """Load an adapter with its base and tokenizer.

    Args:
        folder: The adapter's folder.
        device: Where the model computes.
        base: A folder with the base model, in place of the one that the adapter names.
        dtype: What the model computes in; None for what it was trained in.
        unpacked: Whether a quantized base becomes one of plain numbers, the same ones, which takes their memory.
        offload: Where the base's weights stay: ``disk`` reads them block by block; None keeps them in memory.

    Raises:
        ModelError: If the folder is no adapter of Spry, or its base cannot be found, loaded or left on the disk.
    """
    info = read_info(folder)
    source, notes = _source(info.base, folder, base)
    kept = getattr(torch, dtype or info.dtype)
    loaded = _load_base(info, folder, source, kept, device)
    if offload == "disk":
        stream_from_disk(loaded, info.base.name, kept, device)
    if unpacked and has_packed(loaded):
        loaded = dequantize(loaded, kept)
        notes = [
            *notes,
            "its quantized base was unpacked to plain numbers, the same that it was trained with.",
        ]
    model = _adapted(loaded, folder)
    return Predictor(
        info=info,
        model=model if is_packed(loaded) else model.to(device),
        tokenizer=read_tokenizer(str(folder), Source(path=str(folder))),
        device=torch.device(device),
        notes=tuple(notes),
    )


def _source(record: BaseRecord, folder: Path, given: Path | None) -> tuple[Source, Sequence[str]]:
    if given is not None:
        source = find_source(str(given))
        return source, _differences(record, source)
    if record.place == "folder":
        source = Source(path=str(folder / BASE), gguf=record.gguf)
        if not any(file.is_file() for file in loaded_files(source)):
            raise ModelError(_missing(record, folder, "are gone from its folder"))
        return source, ()
    if record.place == "hub":
        return Source(path=record.name, revision=record.revision), ()
    if record.name not in FRIENDLY and not record.name.startswith("package:"):
        raise ModelError(_missing(record, folder, "are not in its folder"))
    source = find_source(record.name)
    return source, _differences(record, source)


def _missing(record: BaseRecord, folder: Path, where: str) -> str:
    return f"{folder}: the weights of its base model, {record.name}, {where}. Say where they lie with --base FOLDER."


def _differences(record: BaseRecord, source: Source) -> list[str]:
    """Say if a base is not the one that the adapter was trained on; names of files do not count."""
    found = hash_files({file.name: file for file in loaded_files(source)})
    if set(record.files.values()) <= set(found.values()):
        return []
    return [
        f"{source.path}: its weights are not those that the adapter was trained on ({record.name}); what it predicts "
        "may mean nothing."
    ]


def _load_base(info: AdapterInfo, folder: Path, source: Source, dtype: torch.dtype, device: str) -> Any:
    from transformers import AutoConfig

    remedy = (
        "Say where a copy of its base lies with --base FOLDER; for a name on the Hub a network is needed."
    )
    with quiet(), refused_as(f"{folder}: its base model, {info.base.name}, cannot be loaded", remedy):
        config = AutoConfig.from_pretrained(folder / BASE)
        kind, base = find_task(info.task_name).model_class, info.base
        packing = loading_arguments(base.name, config, source, kind, base.quantization, dtype, device)
        model, found = kind.loader.from_pretrained(
            source.path,
            config=config,
            dtype=dtype,
            ignore_mismatched_sizes=True,  # a head for other classes, which the adapter's own replaces
            output_loading_info=True,
            **packing,
            **source.arguments,
        )
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in found["mismatched_keys"]}
    check_pretrained(model, {*found["missing_keys"], *mismatched}, source.path, gguf=source.gguf is not None)
    placed = model if is_packed(model) else model.to(device)
    finish(placed, info.base.quantization, info.base.name)
    return placed


def _adapted(base: Any, folder: Path) -> Any:
    from peft import PeftModel

    remedy = "Is the folder whole, and is its base the one that it was trained on?"
    with quiet(), refused_as(f"{folder}: peft cannot load the adapter", remedy):
        return PeftModel.from_pretrained(base, str(folder)).eval()
