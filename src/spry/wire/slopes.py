"""Recorded slopes as bytes: little endian, float32 or float64, row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spry.core.errors import WireError

MAX_SLOPES = 1 << 24
"""More slopes than this in one reply are taken for an attack or an error: 64 MiB of float32."""
MAX_STEPS = 1 << 20
"""A client that claims more local steps than this in a round would keep the server replaying, even without slopes."""
WIDTHS = {4: np.dtype("<f4"), 8: np.dtype("<f8")}


def width(slopes: Tensor) -> int:
    """Say how wide slopes travel.

    Args:
        slopes: Shape (steps, K).

    Returns:
        Bytes a slope: 8 for float64, else 4.
    """
    return 8 if slopes.dtype == torch.float64 else 4


def pack(slopes: Tensor) -> bytes:
    """Write slopes.

    Args:
        slopes: Shape (steps, K), float32 or float64.

    Returns:
        ``width * steps * K`` bytes.
    """
    return slopes.detach().cpu().contiguous().numpy().astype(WIDTHS[width(slopes)], copy=False).tobytes()


def nbytes(shape: Any, width: int) -> int:
    """Check a shape that a message claims, before anything is allocated.

    Args:
        shape: Must be [steps, K].
        width: Bytes a slope, 4 or 8.

    Returns:
        The bytes that its slopes take.

    Raises:
        WireError: If it is no such shape, or an absurd one.
    """
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n >= 0 for n in shape)):
        raise WireError(f"reply has slopes of shape {shape!r}; it must be [steps, K]")
    number = math.prod(shape)
    if number > MAX_SLOPES or shape[1] > MAX_SLOPES or shape[0] > MAX_STEPS:
        raise WireError(
            f"reply claims {shape[0]} x {shape[1]} slopes; at most {MAX_SLOPES} are allowed, of {MAX_STEPS} steps"
        )
    return number * width


def unpack(data: bytes, shape: list[int], width: int) -> Tensor:
    """Read slopes.

    Args:
        data: What ``pack`` wrote.
        shape: A shape that ``nbytes`` has checked.
        width: Bytes a slope, 4 or 8.

    Returns:
        The slopes, shape (steps, K).

    Raises:
        WireError: If there are too few bytes, or a slope is not finite.
    """
    length = nbytes(shape, width)
    if len(data) < length:
        raise WireError(
            f"reply is truncated: {shape[0]} x {shape[1]} slopes need {length} bytes, {len(data)} came"
        )
    values = torch.from_numpy(np.frombuffer(data[:length], dtype=WIDTHS[width]).reshape(shape).copy())
    if not bool(torch.isfinite(values).all()):
        raise WireError("reply has NaN or infinite slopes")
    return values
