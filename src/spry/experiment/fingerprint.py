"""What a run's settings point to, as short texts that change with it: the base model's files and the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from spry.data.places import locate
from spry.experiment.config import Config
from spry.models.hashes import folder_of, hash_files, hash_weights, weight_files
from spry.models.sources import find_source
from spry.tasks.adapter_folder import adapter_within

BESIDE = ("config.json", "*token*", "vocab*", "merges.txt", "*.model")
"""What else decides a model's outputs: its shape and its tokenizer."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"
DIGITS_SHOWN = 12
"""Digits of a hash that are shown."""

Fingerprint = Mapping[str, str]
"""A hash (sha256, hexadecimal) by what it is of, such as ``model.safetensors``."""


def of_model(config: Config | None, model: nn.Module) -> dict[str, str]:
    """Hash the files of the base model, or, where it does not come from files, its loaded weights."""
    return (model_files(config) if config else {}) or {"weights": hash_weights(model.state_dict().items())}


def model_files(config: Config) -> dict[str, str]:
    """Hash the files of the base model without loading it; none if it is not on this machine."""
    source = find_source(config.model.name)
    folder = folder_of(source)
    if folder is None:
        return {}
    beside = [file for pattern in BESIDE for file in sorted(folder.glob(pattern))]
    return hash_files({file.name: file for file in (*weight_files(source), *beside)})


def data_files(config: Config) -> dict[str, str]:
    """Hash the data files that the configuration names; none if the data comes from elsewhere."""
    named = {name: locate(name) for name in (config.data.name, config.data.test) if name}
    return hash_files(named)


def start_files(config: Config) -> dict[str, str]:
    """Hash the weights of the adapter that training begins with; none if there is none."""
    if config.start is None:
        return {}
    found = adapter_within(Path(config.start).expanduser())
    return {} if found is None else hash_files({ADAPTER_WEIGHTS: found / ADAPTER_WEIGHTS})


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Say what is no longer the same."""

    def told(name: str) -> str:
        before, after = old.get(name), new.get(name)
        if before and after:
            return f"{name} was {before[:DIGITS_SHOWN]}, is {after[:DIGITS_SHOWN]}"
        return f"{name} is gone" if before else f"{name} is new"

    return [told(name) for name in {**old, **new} if old.get(name) != new.get(name)]
