"""Guided directions: a guess of the gradient is the direction, and forward mode measures how long it should be.

With the guess g of the layers below the last block, ``v = g / |g|`` and the slope ``s = <dL/dw, v>``, the estimate
``s v`` is the projection of the exact gradient onto the guess: of all multiples of the guess the one that is nearest to
the gradient, and of its sign, so that it is a direction of descent even where the guess is not.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, dot, tree_map
from spry.estimators.blocks import Blocks, blocks_of
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.estimators.projected import slope_dtype
from spry.estimators.slopes import forward_mode

Per = Literal["whole", "block"]


def along_guess(guess: Estimator, per: Per = "whole") -> Estimator:
    """Project the exact gradient of what lies below the last block onto a guess of it.

    Gradients in the last block and above stay as the guess has them, which is exact for all guesses of this package.

    Args:
        guess: Its gradient is the guess, such as ``residual()`` or ``auxiliary(heads)``.
        per: Whether the guess has one length as a whole, or each block its own: one slope, or one a block.

    Returns:
        The estimator; it draws what the guess draws. A part that is zero has slope 0 and stays zero.

    Source:
        Fournier et al. 2023 (arXiv 2306.06968), section 3.
    """

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        found = guess(loss, params, key)
        directions = [unit(part) for part in parts_below(blocks_of(loss), found.gradient, per)]
        if not directions:
            return found
        slopes = forward_mode(loss, params, directions, {}).slopes.to(slope_dtype(params))
        return Estimate(
            value=found.value,
            gradient={**found.gradient, **_lengthened(slopes, directions)},
            slopes=slopes,
        )

    return estimate


def parts_below(blocks: Blocks, gradient: Params, per: Per = "whole") -> list[Params]:
    """The part of a gradient that lies below the last block, as one or block by block; nothing if there is none."""
    exact = blocks.from_last(gradient)
    below = blocks.below_last(name for name in gradient if name not in exact)
    groups = (
        list(below.values()) if per == "block" else [[name for names in below.values() for name in names]]
    )
    return [{name: gradient[name] for name in names} for names in groups if names]


def unit(part: Params) -> Params:
    """``g / |g|``, or zero."""
    norm = dot(part, part) ** 0.5
    return tree_map(lambda g: g / norm if norm else g, part)


def _lengthened(slopes: Tensor, directions: list[Params]) -> Params:
    return {
        name: float(s) * v
        for s, direction in zip(slopes, directions, strict=True)
        for name, v in direction.items()
    }
