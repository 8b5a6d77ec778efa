"""The rules of the forward engine, one family of functions in each file; importing this package registers them all."""

from __future__ import annotations

from spry.forward.rules import (
    arithmetic,
    attention,
    composite,
    constant,
    dropout,
    elementwise,
    head,
    linear,
    loss,
    multilinear,
    norm,
    packed,
    softmax,
    structural,
)

__all__ = [
    "arithmetic",
    "attention",
    "composite",
    "constant",
    "dropout",
    "elementwise",
    "head",
    "linear",
    "loss",
    "multilinear",
    "norm",
    "packed",
    "softmax",
    "structural",
]
