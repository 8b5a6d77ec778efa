"""The one formula behind forward gradients and zeroth-order methods: ``g = 1/K sum_k s_k v_k``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params, tree_map
from spry.estimators.aligned import most_aligned
from spry.estimators.control import Control, guided, residual
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
    if not drawn:
        return {}
    scaled = [float(s) / len(drawn) for s in slopes]
    total = {name: v * scaled[0] for name, v in drawn[0].items()}
    for s, direction in zip(scaled[1:], drawn[1:], strict=True):
        for name, v in direction.items():
            total[name].add_(v, alpha=s)
    return total


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What slopes are measured along, and what is not measured that way: all it takes to expand recorded ones.

    Args:
        directions: How directions are drawn.
        exact: Names whose gradient is taken exactly instead (the head); it must cost no activations to do so.
        pool: Candidates drawn for each direction, >= 1; of more than one, those most aligned to a hint are kept.
        control: How a hint takes noise away (``estimators/control.py``); it is not used without one.
    """

    directions: Directions = gaussian
    exact: frozenset[str] = frozenset()
    pool: int = 1
    control: Control | None = None

    @property
    def hinted(self) -> bool:
        """Whether a hint is made use of, so that clients have to be sent one."""
        return self.pool > 1 or self.control is not None

    def draw(
        self, key: Key, params: Params, count: int, hint: Params | None = None
    ) -> list[dict[str, Tensor]]:
        """Draw directions for the weights that are measured along them.

        Args:
            key: Where the numbers come from.
            params: Weights; the exact ones are passed over.
            count: K, >= 1.
            hint: A guess of the gradient, if there is one.

        Returns:
            K directions; none if there is nothing to measure.
        """
        moved = {name: w for name, w in params.items() if name not in self.exact}
        if not moved:
            return []
        if hint is not None and self.pool > 1:
            return most_aligned(self.directions(key, moved, count * self.pool), hint, count)
        if self.control == "guided" and count > 1 and hint is not None and any(hint[n].any() for n in moved):
            return guided(self.directions(key, moved, count - 1), hint)
        return self.directions(key, moved, count)

    def expand(
        self, slopes: Tensor, drawn: list[dict[str, Tensor]], hint: Params | None
    ) -> dict[str, Tensor]:
        """Turn slopes into an estimate, with the hint's part in it.

        Args:
            slopes: Shape (K,).
            drawn: What they were measured along.
            hint: What the directions were drawn with.

        Returns:
            The estimate, with the names of the directions.
        """
        if self.control != "previous" or hint is None or not drawn:
            return expand(slopes, drawn)
        return tree_map(torch.add, expand(residual(slopes, drawn, hint), drawn), hint)


def projected(
    slope: Slope = forward_mode, measurement: Measurement = Measurement(), count: int = 1
) -> Estimator:
    """Estimate a gradient from K slopes, ``g = 1/K sum_k s_k v_k``; unbiased if the slopes are.

    Args:
        slope: How slopes are measured.
        measurement: Which directions, for which weights.
        count: K, >= 1.

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

    def estimate(loss: Loss, params: Params, key: Key, hint: Params | None = None) -> Estimate:
        moved = {n: w for n, w in params.items() if n not in measurement.exact}
        still = {n: w for n, w in params.items() if n in measurement.exact}
        drawn = measurement.draw(key, params, count, hint)
        value, slopes, gradient = slope(loss, moved, drawn, still)
        slopes = slopes.to(slope_dtype(moved))
        gradient = {**measurement.expand(slopes, drawn, hint), **gradient}
        return Estimate(value=value, gradient={n: gradient[n] for n in params}, slopes=slopes)

    return estimate


def recorded(slopes: Tensor, measurement: Measurement) -> Estimator:
    """Expand recorded slopes instead of measuring them: the gradients of ``projected``, bit for bit, without a loss.

    Args:
        slopes: What was measured, shape (steps, K); each call takes the next row.
        measurement: What it was measured along; the estimate leaves out the names it takes exactly.

    Returns:
        The estimator, for one replay of the steps.
    """
    rows = iter(slopes)

    def estimate(loss: Loss, params: Params, key: Key, hint: Params | None = None) -> Estimate:
        row = next(rows)
        drawn = measurement.draw(key, params, len(row), hint)
        return Estimate(value=float("nan"), gradient=measurement.expand(row, drawn, hint), slopes=row)

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
