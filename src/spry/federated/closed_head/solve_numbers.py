"""From moments to a head for numbers: ridge regression, whose strength is what makes the numbers likeliest."""

from __future__ import annotations

from torch import Tensor

from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.solve import Head, with_height
from spry.federated.closed_head.strengths import spectrum, strengths


def solve_numbers(sums: HeadMoments, *, bias: bool = True) -> Head:
    """Fit each target by ridge regression with an intercept that is not shrunk, ``b = t - W m``.

    The strength is the one of the greatest restricted likelihood, for each target of its own: where features say
    nothing of the numbers, the head gives their mean. What suits the covariance of the features alone does not know
    that, and was worse than the mean there. Targets that never vary have the weight 0.

    Args:
        sums: Of all examples.
        bias: Whether the head has one; without, it is spread over the features, as for classes.

    Source:
        Hoerl & Kennard 1970.
    """
    return ridge(sums, strengths(sums), bias=bias)


def ridge(sums: HeadMoments, strength: Tensor, *, bias: bool = True) -> Head:
    """Solve ``min_Wb 1/n sum |W x + b - y|^2 + sum_c l_c |W_c|^2``.

    Args:
        sums: Of all examples.
        strength: ``l``, shape (C,).
        bias: As in ``solve_numbers``.
    """
    values, directions = spectrum(sums)
    along = sums.cross / sums.examples @ directions
    weight = (along / (values + strength[:, None])) @ directions.T
    return with_height(sums, weight, sums.target - weight @ sums.mean, strength, bias=bias)
