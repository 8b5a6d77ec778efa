"""Named tensors as bytes: safetensors, with a place in a list that both sides know instead of each long name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from spry.core.errors import WireError
from spry.core.params import Params


def pack(params: Params, names: Sequence[str]) -> bytes:
    """Write some of the named tensors.

    Args:
        params: The tensors; each name must be in ``names``.
        names: The list that both sides know.

    Returns:
        safetensors bytes; none at all for no tensors.
    """
    if not params:
        return b""
    places = {name: str(place) for place, name in enumerate(names)}
    return save({places[name]: value.detach().cpu().contiguous() for name, value in params.items()})


def unpack(data: bytes, like: Params, names: Sequence[str], *, finite: bool = True) -> dict[str, Tensor]:
    """Read tensors that have to fit the ones already known.

    Args:
        data: What ``pack`` wrote.
        like: What each tensor may be called, with its shape, dtype and device.
        names: The list that both sides know.
        finite: Whether NaN and infinite values are refused.

    Returns:
        The tensors under their names, in the order of ``names``, on the devices of ``like``.

    Raises:
        WireError: If the bytes are damaged, or a tensor is unknown, of another shape or dtype, or not finite.
    """
    if not data:
        return {}
    try:
        found = load(data)
    except (SafetensorError, ValueError, OverflowError) as error:
        raise WireError(f"tensors are damaged: {error}") from error
    places = {str(place): name for place, name in enumerate(names) if name in like}
    extra = found.keys() - places.keys()
    if extra:
        raise WireError(f"tensors {sorted(extra)} were not asked for; allowed are {len(places)} known ones")
    return {
        name: _fit(name, found[place], like[name], finite) for place, name in places.items() if place in found
    }


def _fit(name: str, value: Tensor, like: Tensor, finite: bool) -> Tensor:
    if value.shape != like.shape or value.dtype != like.dtype:
        raise WireError(
            f"tensor {name} came as {tuple(value.shape)} {value.dtype}; "
            f"it must be {tuple(like.shape)} {like.dtype}"
        )
    if finite and not bool(torch.isfinite(value).all()):
        raise WireError(f"tensor {name} has NaN or infinite values")
    return value.clone().to(
        like.device
    )  # cloned to torch's alignment: kernels may round differently on another
