"""Metrics of a client elsewhere, as bytes: sums over its examples travel, and what is of single ones stays."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import fields, replace
from typing import Any

import msgspec
import numpy as np

from spry.core.errors import WireError
from spry.tasks.task import Metrics

MAX_CELLS = 1 << 24
"""Largest table of counts that is read, such as a confusion matrix of 4,096 classes."""


def encode_counts(metrics: Metrics | None) -> bytes | None:
    """Write the sums of metrics; None without metrics, or of metrics that keep something of each example all the same.

    Text, such as a sample of answers, is left out: a client's examples stay with it.
    """
    if metrics is None:
        return None
    written: dict[str, Any] = {}
    for one in fields(metrics):  # type: ignore[arg-type]  # all metrics are dataclasses
        value = getattr(metrics, one.name)
        if isinstance(value, np.ndarray) and value.dtype == np.int64:
            written[one.name] = [list(value.shape), value.astype("<i8").tobytes()]
        elif isinstance(value, (int, float)):
            written[one.name] = value
        elif not isinstance(value, Sized) or (len(value) and not isinstance(value, tuple)):
            return None
    return msgspec.msgpack.encode(written)


def decode_counts(data: bytes | None, nothing: Metrics, outputs: int = 0) -> Metrics | None:
    """Read sums into metrics of the kind of ``nothing``, which has none; WireError if they do not fit it.

    Args:
        outputs: How many the task's head has: so large is each side of a table that ``nothing`` leaves open. With 0 any
            size is taken.
    """
    if data is None:
        return None
    try:
        read = msgspec.msgpack.decode(data, type=dict[str, int | float | tuple[list[int], bytes]])
        known = {name: _read(name, value, nothing, outputs) for name, value in read.items()}
        return replace(nothing, **known)  # type: ignore[type-var]  # all metrics are dataclasses
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:  # msgspec's own errors are ValueErrors
        raise WireError(f"metrics are malformed: {error}") from error


def _read(name: str, value: Any, nothing: Metrics, outputs: int) -> Any:
    like = getattr(nothing, name)
    if not isinstance(value, tuple):
        if not isinstance(like, (int, float)):
            raise ValueError(f"{name} is a number")
        return value
    shape, data = value
    counts = isinstance(like, np.ndarray) and like.dtype == np.int64 and like.ndim == len(shape)
    fits = counts and shape in (list(like.shape), [side or outputs for side in like.shape])
    open_ = counts and not like.size and not outputs
    if not (fits or open_) or not 0 <= np.prod(shape) <= MAX_CELLS:
        raise ValueError(f"{name} has the shape {shape}")
    return np.frombuffer(data, dtype="<i8").astype(np.int64).reshape(shape)
