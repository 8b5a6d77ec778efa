"""The one formula behind forward gradients and zeroth-order methods: ``g = 1/K sum_k s_k v_k``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.directions import Directions, gaussian
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.estimators.slopes import Slope, central_difference, forward_mode


def expand(slopes: Tensor, directions: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Multiply slopes, shape (K,), back onto their directions: ``1/K sum_k s_k v_k``, summed in the order of k."""
    if not directions:
        return {}
    scaled = [float(s) / len(directions) for s in slopes]
    total = {name: v * scaled[0] for name, v in directions[0].items()}
    for s, direction in zip(scaled[1:], directions[1:], strict=True):
        for name, v in direction.items():
            total[name].add_(v, alpha=s)
    return total


@dataclass(frozen=True, kw_only=True)
class SlopeSpec:
    """What slopes are measured along, all it takes to expand them; weights named ``exact`` are not perturbed."""

    directions: Directions = gaussian
    exact: frozenset[str] = frozenset()

    def draw(self, key: Key, params: Params, num_directions: int) -> list[dict[str, Tensor]]:
        """Draw K directions for the weights that are perturbed; none if there are no such weights."""
        perturbed = {name: w for name, w in params.items() if name not in self.exact}
        return self.directions(key, perturbed, num_directions) if perturbed else []


def projected(
    slope: Slope = forward_mode, spec: SlopeSpec = SlopeSpec(), num_directions: int = 1
) -> Estimator:
    """Estimate a gradient from K slopes, ``g = 1/K sum_k s_k v_k``; unbiased if the slopes are.

    Slopes are rounded to float32 before use (float64 weights keep float64), so that a receiver of (key, slopes)
    expands the same bits.

    Raises:
        ConfigError: If K is less than 1.

    Source:
        Panchal et al. 2024 (arXiv 2405.15551), section 3, equation of the K-perturbation estimate.
    """
    if num_directions < 1:
        raise ConfigError(f"{num_directions} directions asked for; there must be at least 1")

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        perturbed = {n: w for n, w in params.items() if n not in spec.exact}
        exact = {n: w for n, w in params.items() if n in spec.exact}
        directions = spec.draw(key, params, num_directions)
        value, slopes, gradient = slope(loss, perturbed, directions, exact)
        slopes = slopes.to(slope_dtype(perturbed))
        gradient = {**expand(slopes, directions), **gradient}
        return Estimate(value=value, gradient={n: gradient[n] for n in params}, slopes=slopes)

    return estimate


def forward_gradient(num_directions: int = 1, exact: Iterable[str] = ()) -> Estimator:
    """Estimate a gradient by forward-mode automatic differentiation, ``g = 1/K sum_k <dL/dw, v_k> v_k``; unbiased.

    Args:
        num_directions: K, >= 1: gaussian directions, all in one pass.
        exact: Names of weights near the output whose gradient is taken exactly instead, such as the head's.

    Returns:
        The estimator; its relative squared error is ``(d + 1) / K`` for d perturbed weights.

    Source:
        Baydin et al. 2022 (arXiv 2202.08587); Panchal et al. 2024 (arXiv 2405.15551), section 3.
    """
    return projected(forward_mode, SlopeSpec(exact=frozenset(exact)), num_directions)


def zeroth_order(num_directions: int = 1, fd_step: float = 1e-3, exact: Iterable[str] = ()) -> Estimator:
    """Estimate a gradient by central differences, ``s_k = (L(w + h v_k) - L(w - h v_k)) / 2h`` in place of the slope.

    Args:
        num_directions: K, >= 1: gaussian directions, two evaluations each.
        fd_step: h, > 0; the error falls with h^2 until rounding takes over.
        exact: Names of weights near the output whose gradient is taken exactly instead, such as the head's.

    Returns:
        The estimator.

    Source:
        Malladi et al. 2023 (MeZO, arXiv 2305.17333), definition 1.
    """
    return projected(central_difference(fd_step), SlopeSpec(exact=frozenset(exact)), num_directions)


def from_slopes(slopes: Tensor, spec: SlopeSpec) -> Estimator:
    """Expand recorded slopes, shape (steps, K), without a loss: the gradients of ``projected``, bit for bit.

    Each call takes the next row and leaves out the names that ``spec`` takes exactly, so an estimator serves one
    replay.
    """
    rows = iter(slopes)

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        row = next(rows)
        directions = spec.draw(key, params, len(row))
        return Estimate(value=float("nan"), gradient=expand(row, directions), slopes=row)

    return estimate


def slope_dtype(params: Params) -> torch.dtype:
    """Choose the precision that slopes are recorded in: float64 if all weights are, else float32."""
    double = bool(params) and all(w.dtype == torch.float64 for w in params.values())
    return torch.float64 if double else torch.float32
