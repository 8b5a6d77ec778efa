"""What a client elsewhere remembers from order to order, as bytes, for processes that do not outlive a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from spry.core.errors import WireError
from spry.federated.algorithm import ServerState

_PARTS = ("optimizer", "memory")


def encode_known(state: ServerState) -> bytes:
    """Write the state that a client knows."""
    tensors = {f"weights/{name}": value for name, value in state.weights.items()}
    for part in _PARTS:
        for slot, values in getattr(state, part).items():
            tensors |= {f"{part}/{slot}/{name}": value for name, value in values.items()}
    owned = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    number = str(state.round).encode()
    return len(number).to_bytes(1, "big") + number + save(owned)


def decode_known(data: bytes, like: ServerState) -> ServerState:
    """Read a state, on the devices of ``like``, a fresh state of the same run.

    Raises:
        WireError: If it is damaged, or of another model.
    """
    try:
        size = data[0] + 1
        return _read(load(data[size:]), int(data[1:size]), like)
    except (SafetensorError, IndexError, KeyError, ValueError) as error:
        raise WireError(f"what this client remembers is of another model, or damaged ({error})") from error


def _read(tensors: Mapping[str, Tensor], round: int, like: ServerState) -> ServerState:
    slots: dict[str, dict[str, dict[str, Tensor]]] = {part: {} for part in _PARTS}
    for key, value in tensors.items():
        part, _, rest = key.partition("/")
        if part in slots:
            slot, _, name = rest.partition("/")
            slots[part].setdefault(slot, {})[name] = _placed(value, like)
    weights = {name: _like(tensors[f"weights/{name}"], value) for name, value in like.weights.items()}
    return replace(like, round=round, weights=weights, **slots)


def _like(value: Tensor, like: Tensor) -> Tensor:
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(f"{tuple(value.shape)} {value.dtype} is not {tuple(like.shape)} {like.dtype}")
    return value.clone().to(like.device)  # of torch's alignment, for kernels may round differently on another


def _placed(value: Tensor, like: ServerState) -> Tensor:
    device = next((weight.device for weight in like.weights.values()), value.device)
    return value.clone().to(device)
