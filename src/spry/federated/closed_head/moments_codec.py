"""Sums up of a head whose targets are numbers or labels; the question down and the head are as for classes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from spry.core.errors import WireError
from spry.federated.closed_head.codec import (
    Size,
    check_kind,
    lower_half,
    read_numbers,
    read_scatter,
)
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.possible import ROUNDING, check_cross
from spry.wire.codec import Examples
from spry.wire.frame import Count, Fields, Kind, decode_frame, encode_frame


class MomentsFields(Fields):
    """Moments: means and deviations in float64; the scatter's lower half, row by row, and the products in float32.

    A deviation is ``sqrt(sum (y - t)^2 / n)``: sums of squares of great numbers go beyond what is sent.
    """

    client: Count
    examples: Examples
    targets: Size
    mean: bytes
    target: bytes
    deviations: bytes
    scatter: bytes
    cross: bytes


def encode_moments(client: int, sums: HeadMoments) -> bytes:
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and refused as that
        cross = sums.cross.numpy().astype("<f4")
    deviations = (sums.squares / max(sums.examples, 1)).sqrt()
    fields = MomentsFields(
        client=client,
        examples=sums.examples,
        targets=sums.targets,
        mean=_wide(sums.mean),
        target=_wide(sums.target),
        deviations=_wide(deviations),
        scatter=lower_half(sums.scatter),
        cross=cross.tobytes(),
    )
    return encode_frame(Kind.HEAD_MOMENTS, fields)


def decode_moments(
    data: bytes, client: int, *, targets: int, features: int, labels: bool = False
) -> HeadMoments:
    """Read the sums of one client over so many features and targets.

    Args:
        labels: Whether targets are 0 or 1.

    Raises:
        WireError: If the message is truncated, malformed, of another client or size, of no example, not finite, or of
            moments that no examples have.
    """
    check_kind(data, Kind.HEAD_MOMENTS)
    fields = decode_frame(data, MomentsFields)
    if fields.client != client:
        raise WireError(f"sums are of client {fields.client}; expected client {client}")
    if fields.targets != targets or not fields.examples:
        raise WireError(
            f"sums are of {fields.examples} examples with {fields.targets} targets; expected at least one example, "
            f"with {targets} targets"
        )
    deviations = read_numbers(fields.deviations, "<f8", targets, "deviations")
    if bool((deviations < 0).any()):
        raise WireError("deviations are negative")
    found = HeadMoments(
        examples=fields.examples,
        mean=read_numbers(fields.mean, "<f8", features, "mean"),
        target=read_numbers(fields.target, "<f8", targets, "target"),
        scatter=read_scatter(fields.scatter, features),
        cross=read_numbers(fields.cross, "<f4", targets * features, "cross").reshape(targets, features),
        squares=fields.examples * deviations**2,
    )
    check_cross(found.cross, found.squares, found.scatter)
    if labels:
        _check_labels(found)
    return found


def _wide(values: Tensor) -> bytes:
    return values.numpy().astype("<f8").tobytes()


def _check_labels(sums: HeadMoments) -> None:
    """A share of examples is a whole number of them, and says how much a label varies."""
    share = sums.counts.double() / sums.examples
    there = (sums.counts >= 0) & (sums.counts <= sums.examples)
    if not bool((there & ((sums.target - share).abs() * sums.examples < ROUNDING)).all()):
        raise WireError("target has shares that no examples with labels have")
    expected = sums.examples * share * (1 - share)
    if bool(((sums.squares - expected).abs() > ROUNDING * (1 + expected)).any()):
        raise WireError("deviations are not those of labels")
