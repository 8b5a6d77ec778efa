"""From sums to a head for classes: linear discriminant analysis, whose scores are the classes' calibrated log-odds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spry.core.errors import DataError
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.strengths import common_strength, spectrum
from spry.federated.closed_head.sums import HeadSums


class Head(NamedTuple):
    """A linear map ``z = W x + b``: weight, shape (C, D), bias, shape (C,), in float64."""

    weight: Tensor
    bias: Tensor


def solve(sums: HeadSums, *, bias: bool = True, strength: float | None = None) -> Head:
    """Fit normal distributions with one covariance to the classes; scores are log-posteriors up to a common term.

    ``W_c = (S + l)^-1 (m_c - m)``, ``b_c = -1/2 (m_c + m)' W_c + log(n_c / n)``. S is the covariance within classes.
    The strength ``l`` is that of ridge regression onto the classes: what suits the covariance alone does not know
    whether features say anything of the classes, and was overconfident with few examples (``docs/decisions.md``).

    Args:
        sums: Of all examples.
        bias: Whether the head has one. Without, it is spread over the features, see ``with_height``; the mean of all
            scores, which decides nothing, is taken out before.
        strength: ``l``; None takes the likeliest, the same for all classes.

    Raises:
        DataError: If a class has no example.

    Source:
        Fisher 1936. ``strengths`` names what the strength is from.
    """
    _refuse_missing(sums)
    number, counts, moments = sums.examples, sums.counts.double(), sums.moments()
    strength = common_strength(moments) if strength is None else strength
    covariance = sums.scatter / number + strength * torch.eye(sums.features).double()
    weight = torch.linalg.solve(covariance, (sums.means - moments.mean).T).T
    heights = -0.5 * ((sums.means + moments.mean) * weight).sum(1) + torch.log(counts / number)
    told = heights if bias else heights - heights.mean()
    return with_height(moments, weight, told, torch.full_like(heights, strength), bias=bias)


def _refuse_missing(sums: HeadSums) -> None:
    missing = [c for c, count in enumerate(sums.counts.tolist()) if not count]
    if missing:
        raise DataError(
            f"a head in closed form needs examples of every class; of {sums.classes} classes there are none of number "
            f"{', '.join(map(str, missing[:10]))}. Set head.start=drawn, or leave these classes out"
        )


def with_height(
    sums: HeadMoments, weight: Tensor, height: Tensor, strength: Tensor, *, bias: bool = True
) -> Head:
    """Give a map its bias, or spread it over the features where there is none: ``W_c + b_c u_c'``.

    ``u_c = (T + l_c)^-1 m / (m' (T + l_c)^-1 m)`` is the combination of features whose mean is 1 and which varies
    least, T their covariance. Nothing is lost where some combination is constant.

    Args:
        weight: Shape (C, D).
        height: The bias, shape (C,).
        strength: ``l``, shape (C,).
    """
    if bias:
        return Head(weight, height)
    values, directions = spectrum(sums)
    constant = (sums.mean @ directions / (values + strength[:, None])) @ directions.T
    one = constant / (constant @ sums.mean)[:, None]
    return Head(weight + height[:, None] * one, torch.zeros_like(height))
