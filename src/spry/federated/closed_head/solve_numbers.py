"""From moments to a head for numbers: ridge regression, whose strength is what makes the numbers likeliest."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.solve import Head, with_height

_STRENGTHS = torch.logspace(6, -4, 101, dtype=torch.float64)
"""What is tried, in mean variances of a feature, the first of equals being taken: beyond it only the mean is left, and
below the last, float32 has rounded the scatter."""
_LEAST = 1e-6
"""Share of the numbers' variance that is never explained: float32 has rounded the products."""


def solve_numbers(sums: HeadMoments, *, bias: bool = True) -> Head:
    """Fit each target by ridge regression with an intercept that is not shrunk, ``b = t - W m``.

    The strength is the one of the greatest restricted likelihood, for each target of its own: where features say
    nothing of the numbers, the head gives their mean. What suits the covariance of the features alone does not know
    that, and was worse than the mean there. Targets that never vary have the weight 0.

    Args:
        sums: Of all examples.
        bias: Whether the head has one; without, it is spread over the features, as for classes.

    Source:
        Hoerl & Kennard 1970. Patterson & Thompson 1971 for the likelihood; it is MacKay's (1992) evidence.
    """
    return ridge(sums, strengths(sums), bias=bias)


def ridge(sums: HeadMoments, strength: Tensor, *, bias: bool = True) -> Head:
    """Solve ``min_Wb 1/n sum |W x + b - y|^2 + sum_c l_c |W_c|^2``.

    Args:
        sums: Of all examples.
        strength: ``l``, shape (C,).
        bias: As in ``solve_numbers``.
    """
    values, directions = _spectrum(sums)
    along = sums.cross / sums.examples @ directions
    weight = (along / (values + strength[:, None])) @ directions.T
    return with_height(sums, weight, sums.target - weight @ sums.mean, bias=bias)


def strengths(sums: HeadMoments) -> Tensor:
    """The strength of each target, shape (C,), of the least ``(n - 1) log q + sum_d log(1 + s_d / l)``.

    ``s_d`` are the eigenvalues of the features' covariance, and ``q = v - sum_d a_d^2 / (s_d + l)`` with the variance v
    of the target and its covariances a with the features along the eigenvectors.
    """
    values, directions = _spectrum(sums)
    along = sums.cross / sums.examples @ directions
    tried = _STRENGTHS * (float(values.mean()) or 1.0)
    variance = (sums.squares / sums.examples).clamp(min=torch.finfo(torch.float64).tiny)
    explained = along**2 @ (1 / (values[:, None] + tried))  # no array of targets by strengths by features
    left = 1 - explained / variance[:, None]
    unlikely = (sums.examples - 1) * left.clamp(min=_LEAST).log() + torch.log1p(values / tried[:, None]).sum(
        1
    )
    return tried[unlikely.argmin(dim=1)]


def _spectrum(sums: HeadMoments) -> tuple[Tensor, Tensor]:
    values, directions = torch.linalg.eigh(sums.scatter / sums.examples)
    return values.clamp(min=0), directions
