"""Named tensors as fields, with a place in a list that both sides know instead of each long name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from spry.core.errors import WireError
from spry.core.params import Params
from spry.wire.frame import Count, Fields

MAX_MAGNITUDE = 1e15
"""A larger value is refused like an infinite one: its square, of which optimizers keep means, overflows float32 and
leaves the server with moments or weights that never recover."""


class TensorFields(Fields):
    """One tensor; its values are raw, little endian as the machines are that train."""

    place: Count
    dtype: str
    shape: Annotated[tuple[Count, ...], Meta(max_length=8)]
    data: bytes


def encode_tensors(params: Params, names: Sequence[str]) -> tuple[TensorFields, ...]:
    """Write some of the named tensors; ``names`` is the list that both sides know."""
    places = {name: place for place, name in enumerate(names)}
    return tuple(
        TensorFields(
            place=places[name],
            dtype=_dtype(value),
            shape=tuple(value.shape),
            data=_bytes(value.detach().cpu()),
        )
        for name, value in params.items()
    )


def decode_tensors(found: Sequence[TensorFields], like: Params, names: Sequence[str]) -> dict[str, Tensor]:
    """Read tensors that have to fit the ones already known: shape, dtype and device are those of ``like``.

    ``names`` is the list that both sides know; the tensors are returned in its order.

    Raises:
        WireError: If a tensor is unknown, comes twice, has another shape, dtype or length, or is not finite.
    """
    read: dict[str, Tensor] = {}
    for one in found:
        name = names[one.place] if one.place < len(names) else None
        if name is None or name not in like:
            raise WireError(f"tensor {one.place} was not asked for; asked for were {len(like)} known ones")
        if name in read:
            raise WireError(f"tensor {name} came twice")
        read[name] = _fit(name, one, like[name])
    return {name: read[name] for name in names if name in read}


def _fit(name: str, found: TensorFields, like: Tensor) -> Tensor:
    if found.shape != tuple(like.shape) or found.dtype != _dtype(like):
        raise WireError(
            f"tensor {name} came as {found.shape} {found.dtype}; it must be {tuple(like.shape)} {_dtype(like)}"
        )
    if len(found.data) != like.numel() * like.element_size():
        raise WireError(
            f"tensor {name} is damaged: {len(found.data)} bytes are not {found.shape} {found.dtype}"
        )
    # memory of torch's alignment, for kernels may round differently on another
    value = torch.empty(like.shape, dtype=like.dtype)
    value.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(found.data, dtype=np.uint8)
    if not sane(value):
        raise WireError(f"tensor {name} has values that are NaN, infinite or beyond {MAX_MAGNITUDE:g}")
    return value.to(like.device)


def sane(value: Tensor) -> bool:
    """Tell whether all values are finite and below the bound, which is infinite in float16."""
    return bool((torch.isfinite(value) & (value.abs() <= MAX_MAGNITUDE)).all())


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _bytes(value: Tensor) -> bytes:
    return value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
