"""Recorded slopes as bytes: little endian, float32 or float64, row by row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spry.core.errors import WireError
from spry.wire.tensors import MAX_MAGNITUDE, sane

_WIDTHS = {4: np.dtype("<f4"), 8: np.dtype("<f8")}


def encode_slopes(slopes: Tensor) -> bytes:
    """Write float32 or float64 slopes of any shape."""
    width = _WIDTHS[slopes.element_size()]
    return slopes.detach().cpu().contiguous().numpy().astype(width, copy=False).tobytes()


def decode_slopes(data: bytes, number: int) -> Tensor:
    """Read slopes, shape (number,); how wide they are follows from how many there are.

    Too few or too many bytes, or a slope that is not finite, are a WireError.
    """
    width = next((width for width in _WIDTHS if len(data) == number * width), None)
    if width is None:
        raise WireError(f"{number} slopes take {4 * number} or {8 * number} bytes; {len(data)} came")
    values = torch.from_numpy(np.frombuffer(data, dtype=_WIDTHS[width]).copy())
    if not sane(values):
        raise WireError(f"message has slopes that are NaN, infinite or beyond {MAX_MAGNITUDE:g}")
    return values
