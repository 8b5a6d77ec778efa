"""Slopes of single examples, of which none may count for much: forward mode gives them all in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.params import Params
from spry.estimators.loss import Loss
from spry.estimators.slopes import Slope, SlopeResult
from spry.forward import row_slopes


class RowLoss(Protocol):
    """A loss that tells the losses of its examples, too."""

    def examples(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate the examples' own losses, shape (B,)."""
        ...


def bounded_examples(clip: float, batch_size: int) -> Slope:
    """Shorten each example's K slopes together, then sum: ``s = 1/B sum_b s_b min(1, C / |s_b|)``.

    An example adds ``C / B`` at most, in norm, to the slopes of its batch. A tangent of the examples' losses has the
    slope of each, so that they cost no more than their mean.

    Args:
        clip: C > 0.
        batch_size: B >= 1, also where a batch holds fewer.

    Returns:
        The way to measure; what is differentiated exactly is refused (ConfigError), since nothing bounds it.

    Raises:
        ConfigError: If ``clip`` is not positive.

    Source:
        Abadi et al. 2016 (arXiv 1607.00133) for clipping by example; K slopes of an example are one vector, and are
        shortened as one (DP-AggZO), so that noise grows with the root of K and not with K.
    """
    if not clip > 0:
        raise ConfigError(f"privacy.clip is {clip}; it must be a norm greater than 0, such as 1.0")

    def measure(loss: Loss, params: Params, directions: Sequence[Params], exact: Params) -> SlopeResult:
        if exact:
            raise ConfigError(
                f"privacy.unit is 'example', and the gradient of {next(iter(exact))} is exact, which nothing bounds by "
                "example. Set step_factors.head = 0, or peft.exact = 'nothing'"
            )
        value, total = 0.0, torch.zeros(len(directions), dtype=torch.float64)
        for share, part in loss.microbatches():
            rows = cast(RowLoss, part)
            losses, slopes = row_slopes(lambda duals, rows=rows: rows.examples(duals), params, directions)
            value += share * float(losses.detach().double().mean())
            total += _shortened(slopes.detach().double().cpu(), clip).sum(0)
        return SlopeResult(value, total / batch_size, {})

    return measure


def _shortened(rows: Tensor, norm: float) -> Tensor:
    """Shorten each row; one that is not finite counts as nothing, or it would take its batch along."""
    rows = torch.where(rows.isfinite().all(1, keepdim=True), rows, torch.zeros(()).to(rows))
    return rows * (norm / rows.norm(dim=1, keepdim=True).clamp(min=norm))
