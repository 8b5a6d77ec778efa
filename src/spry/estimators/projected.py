"""The one formula behind forward gradients and zeroth-order methods: ``g = 1/K sum_k s_k v_k``."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.directions import Directions, gaussian
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.slopes import Slope, forward_mode
from spry.forward.loss import Loss


def expand(slopes: Tensor, drawn: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Multiply slopes back onto their directions, ``1/K sum_k s_k v_k``, summed in the order of k.

    Args:
        slopes: Shape (K,).
        drawn: K directions.

    Returns:
        The gradient estimate, with the names of the directions.
    """
    scaled = [float(s) / len(drawn) for s in slopes]
    total = {name: v * scaled[0] for name, v in drawn[0].items()}
    for s, direction in zip(scaled[1:], drawn[1:], strict=True):
        for name, v in direction.items():
            total[name].add_(v, alpha=s)
    return total


def projected(
    slope: Slope = forward_mode,
    directions: Directions = gaussian,
    count: int = 1,
    exact: Collection[str] = (),
) -> Estimator:
    """Estimate a gradient from K slopes, ``g = 1/K sum_k s_k v_k``; unbiased if the slopes are.

    Args:
        slope: How slopes are measured.
        directions: How directions are drawn.
        count: K, >= 1.
        exact: Names whose gradient is taken exactly instead (the head); it must cost no activations to do so.

    Returns:
        The estimator. Its slopes are rounded to float32 before use (float64 weights keep float64), so that a receiver
        of (key, slopes) expands the same bits.

    Raises:
        ConfigError: If K is less than 1.

    Source:
        Panchal et al. 2024 (arXiv 2405.15551), section 3, equation of the K-perturbation estimate.
    """
    if count < 1:
        raise ConfigError(f"{count} directions asked for; there must be at least 1")
    exact = frozenset(exact)

    def estimate(loss: Loss, params: Params, key: Key, hint: Params | None = None) -> Estimate:
        moved = {n: w for n, w in params.items() if n not in exact}
        still = {n: w for n, w in params.items() if n in exact}
        drawn = directions(key, moved, count) if moved else []
        value, slopes, gradient = slope(loss, moved, drawn, still)
        slopes = slopes.to(slope_dtype(moved))
        if moved:
            gradient = {**expand(slopes, drawn), **gradient}
        return Estimate(value=value, gradient={n: gradient[n] for n in params}, slopes=slopes)

    return estimate


def slope_dtype(params: Params) -> torch.dtype:
    """Choose the precision that slopes are recorded in.

    Args:
        params: The weights that the directions move.

    Returns:
        float64 if all weights are float64, else float32.
    """
    double = bool(params) and all(w.dtype == torch.float64 for w in params.values())
    return torch.float64 if double else torch.float32
