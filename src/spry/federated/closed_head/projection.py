"""Fewer features for wide models: random combinations, drawn from a key that both sides know."""

from __future__ import annotations

from torch import Tensor

from spry.core.keys import Key

MOST_FEATURES = 1024
"""A head with more inputs is fitted on so many random combinations of them, unless the number is set: half a million
sums are 2.1 MB."""


def summed_features(features: int, asked: int | None) -> int:
    """How many features sums are taken over, of a head with so many inputs; ``asked`` is the setting."""
    if asked is None:
        return min(features, MOST_FEATURES)
    return min(asked, features)


def projection(key: Key, features: int, number: int) -> Tensor | None:
    """Draw P, shape (number, features), of variance ``1 / features``; None where all features are taken as they are.

    Sums are taken over ``P x``, and a head on them is one on x: ``W = W_P P``.
    """
    if number == features:
        return None
    return key.normal("projection", (number, features)).double() / features**0.5
