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
from spry.experiment.kept import Kept
from spry.federated.algorithm import ServerState

CHECKPOINT_FILE = "checkpoint.safetensors"


def write_checkpoint(state: ServerState, folder: Path, kept: Kept | None = None) -> None:
    """Write the state, and the best round so far, into a run folder.

    If the disk refuses (DiskError), the last checkpoint is still there. Both are one file, so that they always fit.
    """
    tensors = {f"weights/{name}": value for name, value in state.weights.items()}
    for slot, slots in state.optimizer.items():
        tensors |= {f"optimizer/{slot}/{name}": value for name, value in slots.items()}
    for slot, slots in state.memory.items():
        tensors |= {f"memory/{slot}/{name}": value for name, value in slots.items()}
    header: dict[str, Any] = {"version": 1, "round": state.round}
    if kept is not None:
        tensors |= {
            f"kept/{name}": value.clone() for name, value in kept.weights.items()
        }  # may be the state's
        header["kept"] = {"round": kept.round, "score": kept.score, "waited": kept.waited}
    metadata = {"spry": json.dumps(header)}
    data = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata)
    target = folder / CHECKPOINT_FILE
    try:
        replace_file(target, data)
    except OSError as error:
        earlier = (
            f"the checkpoint before it is kept in {target}" if target.exists() else "there is no earlier one"
        )
        raise DiskError(
            f"cannot write the checkpoint of round {state.round} ({error}); {earlier}. Make room, then resume the run."
        ) from error


def read_checkpoint(folder: Path, like: ServerState) -> ServerState:
    """Read the state of a run folder, on the devices of ``like``, a fresh state of the same run.

    Raises:
        CheckpointError: If the file is missing, damaged, or has other names, shapes or dtypes than ``like``.
    """
    path = folder / CHECKPOINT_FILE
    header, tensors = _open(path)

    def take(key: str, shape: Tensor) -> Tensor:
        return _taken(tensors, key, shape, path)

    return ServerState(
        round=header["round"],
        weights={name: take(f"weights/{name}", value) for name, value in like.weights.items()},
        optimizer={
            slot: {name: take(f"optimizer/{slot}/{name}", value) for name, value in slots.items()}
            for slot, slots in like.optimizer.items()
        },
        memory=_memory(tensors, like, path),
    )


def read_kept(folder: Path, like: ServerState) -> Kept | None:
    """Read the best round so far, if the run chose one; see ``read_checkpoint``."""
    path = folder / CHECKPOINT_FILE
    header, tensors = _open(path)
    if "kept" not in header:
        return None
    names = [key.removeprefix("kept/") for key in tensors if key.startswith("kept/")]
    weights = {n: _taken(tensors, f"kept/{n}", w, path) for n, w in like.weights.items() if n in names}
    return Kept(**header["kept"], weights=weights)


def _taken(tensors: Mapping[str, Tensor], key: str, shape: Tensor, path: Path) -> Tensor:
    if key not in tensors or tensors[key].shape != shape.shape or tensors[key].dtype != shape.dtype:
        raise CheckpointError(
            f"{path} does not fit this run's model and optimizer (at {key}). Start the run anew."
        )
    return tensors[key].to(shape.device)


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
