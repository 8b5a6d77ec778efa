"""The two ways to measure the slope ``s = <dL/dw, v>``: a jvp, or a finite difference (central or forward).

Both also return the exact gradient of the weights that are not perturbed but asked for (the classification head):
automatic differentiation of the head alone, whose graph starts at the features, so no activation of the model is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.params import Params, leaf, tree_map
from spry.estimators.exact import evaluate_lazily
from spry.estimators.loss import Loss
from spry.forward import jvp


class SlopeResult(NamedTuple):
    """The loss, a slope per direction (shape (K,), float64 on the CPU), and the gradient of the exact weights."""

    value: float
    slopes: Tensor
    exact: dict[str, Tensor]


class Slope(Protocol):
    def __call__(
        self, loss: Loss, params: Params, directions: Sequence[Params], exact: Params
    ) -> SlopeResult:
        """Measure the loss, its slopes along K directions of ``params``, and the gradient of ``exact``, which stay."""
        ...


def _gradients(value: Tensor, leaves: Params) -> dict[str, Tensor]:
    if not leaves:
        return {}
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))


def _evaluate(
    loss: Loss, params: Params, leaves: Params, sums: dict[str, Tensor] | None = None, weight: float = 1.0
) -> float:
    """Evaluate at some weights; add ``weight`` times the gradient of the leaves to ``sums``, if there are any."""
    total = 0.0
    for share, part in loss.microbatches():
        value = evaluate_lazily(part, leaves, params)
        if sums is not None:
            for name, gradient in _gradients(value, leaves).items():
                sums[name] = sums[name].add(gradient, alpha=share * weight)
        total += share * float(value.detach())
    return total


def forward_mode(loss: Loss, params: Params, directions: Sequence[Params], exact: Params) -> SlopeResult:
    """Measure slopes by forward-mode automatic differentiation, ``s_k = J_L(w) v_k``, in one pass for all k.

    Source:
        Baydin et al. 2022 (arXiv 2202.08587); Panchal et al. 2024 (arXiv 2405.15551), section 3.
    """
    if not params:
        return _nothing_moved(loss, exact)
    leaves = tree_map(leaf, exact)
    sums = tree_map(torch.zeros_like, exact)
    value, slopes = 0.0, torch.zeros(len(directions), dtype=torch.float64)
    for share, part in loss.microbatches():
        part_value, part_slopes = jvp(lambda duals, part=part: part({**duals, **leaves}), params, directions)
        for name, gradient in _gradients(part_value, leaves).items():
            sums[name] = sums[name].add(gradient, alpha=share)
        value += share * float(part_value.detach())
        slopes += share * part_slopes.detach().double().cpu()
    return SlopeResult(value, slopes, sums)


def _nothing_moved(loss: Loss, exact: Params) -> SlopeResult:
    sums = tree_map(torch.zeros_like, exact)
    value = _evaluate(loss, {}, tree_map(leaf, exact), sums)
    return SlopeResult(value, torch.zeros(0, dtype=torch.float64), sums)


def _check(h: float) -> None:
    if not h > 0:
        raise ConfigError(f"the finite-difference step h is {h}; it must be greater than 0, for example 1e-3")


def central_difference(h: float = 1e-3) -> Slope:
    """Measure slopes by ``s_k = (L(w + h v_k) - L(w - h v_k)) / 2h``; both sides see the same dropout masks.

    The error falls with h^2, h > 0, until rounding takes over. Each direction costs two evaluations.

    Source:
        Malladi et al. 2023 (MeZO, arXiv 2305.17333), definition 1.
    """
    _check(h)

    def measure(loss: Loss, params: Params, directions: Sequence[Params], exact: Params) -> SlopeResult:
        if not params:
            return _nothing_moved(loss, exact)
        leaves, sums = tree_map(leaf, exact), tree_map(torch.zeros_like, exact)
        values, slopes = 0.0, []
        share = 0.5 / len(directions)
        for direction in directions:
            sides = []
            for sign in (h, -h):
                moved = tree_map(lambda w, v, sign=sign: w + sign * v, params, direction)
                sides.append(_evaluate(loss, moved, leaves, sums, share))
            slopes.append((sides[0] - sides[1]) / (2 * h))
            values += share * sum(sides)
        return SlopeResult(values, torch.tensor(slopes, dtype=torch.float64), sums)

    return measure


def forward_difference(h: float = 1e-3) -> Slope:
    """Measure slopes by ``s_k = (L(w + h v_k) - L(w)) / h``; all evaluations see the same dropout masks.

    The error falls with h > 0 until rounding takes over. K directions cost K + 1 evaluations.

    Source:
        Feng et al. 2023 (BAFFLE, arXiv 2301.12195), the one-sided scheme.
    """
    _check(h)

    def measure(loss: Loss, params: Params, directions: Sequence[Params], exact: Params) -> SlopeResult:
        if not params:
            return _nothing_moved(loss, exact)
        leaves, sums = tree_map(leaf, exact), tree_map(torch.zeros_like, exact)
        base = _evaluate(loss, params, leaves, sums)
        slopes = []
        for direction in directions:
            moved = tree_map(lambda w, v: w + h * v, params, direction)
            # no gradient is wanted here, but by another path than the base's the value would round otherwise
            slopes.append((_evaluate(loss, moved, leaves) - base) / h)
        return SlopeResult(base, torch.tensor(slopes, dtype=torch.float64), sums)

    return measure
