"""The server's state in one file, replaced as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spry.core.errors import CheckpointError, DiskError
from spry.experiment.atomic import replace_file
from spry.federated.algorithm import ServerState

CHECKPOINT_FILE = "checkpoint.safetensors"


def write_checkpoint(state: ServerState, folder: Path) -> None:
    """Write the state into a run folder; if the disk refuses (DiskError), the last checkpoint is still there."""
    tensors = {f"weights/{name}": value for name, value in state.weights.items()}
    for slot, slots in state.optimizer.items():
        tensors |= {f"optimizer/{slot}/{name}": value for name, value in slots.items()}
    for slot, slots in state.memory.items():
        tensors |= {f"memory/{slot}/{name}": value for name, value in slots.items()}
    metadata = {"spry": json.dumps({"version": 1, "round": state.round})}
    data = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata)
    target = folder / CHECKPOINT_FILE
    try:
        replace_file(target, data)
    except OSError as error:
        kept = (
            f"the checkpoint before it is kept in {target}" if target.exists() else "there is no earlier one"
        )
        raise DiskError(
            f"cannot write the checkpoint of round {state.round} ({error}); {kept}. Make room, then resume the run."
        ) from error


def read_checkpoint(folder: Path, like: ServerState) -> ServerState:
    """Read the state of a run folder, on the devices of ``like``, a fresh state of the same run.

    Raises:
        CheckpointError: If the file is missing, damaged, or has other names, shapes or dtypes than ``like``.
    """
    path = folder / CHECKPOINT_FILE
    header, tensors = _open(path)

    def take(key: str, shape: Tensor) -> Tensor:
        if key not in tensors or tensors[key].shape != shape.shape or tensors[key].dtype != shape.dtype:
            raise CheckpointError(
                f"{path} does not fit this run's model and optimizer (at {key}). Start the run anew."
            )
        return tensors[key].to(shape.device)

    return ServerState(
        round=header["round"],
        weights={name: take(f"weights/{name}", value) for name, value in like.weights.items()},
        optimizer={
            slot: {name: take(f"optimizer/{slot}/{name}", value) for name, value in slots.items()}
            for slot, slots in like.optimizer.items()
        },
        memory=_memory(tensors, like, path),
    )


def _open(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} has no checkpoint; there is nothing to resume. Start the run anew."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["spry"])
            # cloned, because kernels may round differently on memory that is not aligned as torch aligns its own
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # ruff: ignore[in-dict-keys]
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Start the run anew.") from error
    if header["version"] != 1:
        raise CheckpointError(
            f"{path} has format {header['version']}; this Spry reads format 1. Use the Spry that wrote it."
        )
    return header, tensors


def _memory(tensors: Mapping[str, Tensor], like: ServerState, path: Path) -> dict[str, dict[str, Tensor]]:
    """What a method remembers grows as it runs, so only tensors under a weight's name have a known shape."""
    device = next((weight.device for weight in like.weights.values()), torch.device("cpu"))
    memory: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("memory/"):
            slot, _, name = key.removeprefix("memory/").partition("/")
            if name in like.weights and like.weights[name].shape != value.shape:
                raise CheckpointError(f"{path} does not fit this run's model (at {key}). Start the run anew.")
            memory.setdefault(slot, {})[name] = value.to(device)
    return memory


def has_checkpoint(folder: Path) -> bool:
    return (folder / CHECKPOINT_FILE).is_file()
