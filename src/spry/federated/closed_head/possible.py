"""Whether some examples can have the sums that a client sent: the one check, for classes, labels and numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.core.errors import WireError

ROUNDING = 1e-3
"""How far products of float32 may lie beyond what Cauchy and Schwarz allow, relative to it."""
_LEAST = torch.finfo(torch.float32).tiny
"""Below this float32 has few digits: squares that vanish there may leave products that do not."""
_SHIFT = 1e-6
"""Share of all squares that is added to each: rounding to float32 moves an eigenvalue by less than a tenth of it."""


def check_scatter(scatter: Tensor) -> Tensor:
    """Refuse, with a WireError, a scatter ``S`` that no examples have; a factor of the others, ``L L' = S + e I``.

    Args:
        scatter: Shape (D, D), finite, symmetric.
    """
    squares = scatter.diagonal()
    if bool((squares < 0).any()):
        raise WireError("scatter has a negative sum of squares")
    bound = (squares + _LEAST).outer(squares + _LEAST).sqrt()
    if bool((scatter.abs() > (1 + ROUNDING) * bound).any()):
        raise WireError("scatter has products that no examples with its squares have")
    shifted = scatter.clone()
    shifted.diagonal().add_(_SHIFT * squares.sum() + _LEAST)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if int(failed):
        raise WireError("scatter is not positive semidefinite, so that no examples have it")
    return factor


def check_cross(cross: Tensor, squares: Tensor, scatter: Tensor) -> None:
    """Refuse, with a WireError, sums that no examples have: of features, targets and their products.

    Features explain no more of a target than there is: ``c' S^-1 c <= q``.

    Args:
        cross: ``c`` of each target, shape (C, D), finite.
        squares: ``q``, shape (C,), finite and not negative.
        scatter: ``S``, as in ``check_scatter``.
    """
    factor = check_scatter(scatter)
    bound = (squares + _LEAST).outer(scatter.diagonal() + _LEAST).sqrt()
    if bool((cross.abs() > (1 + ROUNDING) * bound).any()):
        raise WireError("cross has products that no examples with these squares have")
    explained = torch.linalg.solve_triangular(factor, cross.T, upper=False).square().sum(0)
    if bool((explained > (1 + ROUNDING) * (squares + _LEAST)).any()):
        raise WireError("cross explains more of the targets than there is")
