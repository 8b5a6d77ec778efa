"""Hashes of a model's files and weights (SHA-256, hexadecimal), by which two models are known to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from spry.models.sources import Source

WEIGHTS = ("*.safetensors", "*.bin")
"""A model folder's weights: the first of these that it has."""


def folder_of(source: Source) -> Path | None:
    """Find the folder of a model on this machine: its own, or that of the Hub's local cache; None if it has none."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source.path).is_dir():
        return Path(source.path)
    file = try_to_load_from_cache(source.path, "config.json", revision=source.revision)
    return Path(file).parent if isinstance(file, str) else None


def weight_files(source: Source) -> list[Path]:
    """List the files of a model's weights; none if they are not on this machine."""
    folder = folder_of(source)
    if folder is None:
        return []
    if source.gguf:
        return [folder / source.gguf]
    return next(filter(None, (sorted(folder.glob(pattern)) for pattern in WEIGHTS)), [])


def hash_files(files: Mapping[str, Path]) -> dict[str, str]:
    """Hash those files that exist, by name."""
    there = {name: (file, file.stat()) for name, file in files.items() if file.is_file()}
    return {name: _of_file(file, stat.st_size, stat.st_mtime_ns) for name, (file, stat) in there.items()}


def hash_weights(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Hash tensors by their names, types, shapes and bytes."""
    hashed = hashlib.sha256()
    for name, weight in sorted(weights):
        hashed.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        hashed.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


@lru_cache(maxsize=256)
def _of_file(file: Path, size: int, changed: int) -> str:
    """Size and time of change make a comparison of many runs read each file once."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
