"""What a run's settings point to, as short texts that change with it: the base model's files and the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from spry.experiment.config import Config
from spry.models.sources import find_source

WEIGHTS = ("*.safetensors", "*.bin")
"""A model folder's weights: the first of these that it has."""
BESIDE = ("config.json", "*token*", "vocab*", "merges.txt", "*.model")
"""What else decides a model's outputs: its shape and its tokenizer."""
DIGITS_SHOWN = 12
"""Digits of a hash that are shown."""

Fingerprint = Mapping[str, str]
"""A hash (sha256, hexadecimal) by what it is of, such as ``model.safetensors``."""


def of_model(config: Config | None, model: nn.Module) -> dict[str, str]:
    """Hash the files of the base model, or, where it does not come from files, its loaded weights."""
    return (model_files(config) if config else {}) or {"weights": _of_weights(model)}


def model_files(config: Config) -> dict[str, str]:
    """Hash the files of the base model without loading it; none if it is not on this machine."""
    source = find_source(config.model.name)
    folder = Path(source.path) if Path(source.path).is_dir() else _cached(source.path)
    if folder is None:
        return {}
    weights = [folder / source.gguf] if source.gguf else next(filter(None, _found(folder, WEIGHTS)), [])
    beside = [file for files in _found(folder, BESIDE) for file in files]
    return _hashed({file.name: file for file in (*weights, *beside)})


def data_files(config: Config) -> dict[str, str]:
    """Hash the data files that the configuration names; none if the data comes from elsewhere."""
    named = {name: Path(name).expanduser() for name in (config.data.name, config.data.test) if name}
    return _hashed(named)


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Say what is no longer the same."""

    def told(name: str) -> str:
        before, after = old.get(name), new.get(name)
        if before and after:
            return f"{name} was {before[:DIGITS_SHOWN]}, is {after[:DIGITS_SHOWN]}"
        return f"{name} is gone" if before else f"{name} is new"

    return [told(name) for name in {**old, **new} if old.get(name) != new.get(name)]


def _of_weights(model: nn.Module) -> str:
    hashed = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        hashed.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        hashed.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _cached(name: str) -> Path | None:
    """The folder of a model of the Hub in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(name, "config.json")
    return Path(file).parent if isinstance(file, str) else None


def _found(folder: Path, patterns: tuple[str, ...]) -> Iterator[list[Path]]:
    return (sorted(folder.glob(pattern)) for pattern in patterns)


def _hashed(files: Mapping[str, Path]) -> dict[str, str]:
    there = {name: (file, file.stat()) for name, file in files.items() if file.is_file()}
    return {name: _of_file(file, stat.st_size, stat.st_mtime_ns) for name, (file, stat) in there.items()}


@lru_cache(maxsize=256)
def _of_file(file: Path, size: int, changed: int) -> str:
    """Size and time of change make a comparison of many runs read each file once."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
