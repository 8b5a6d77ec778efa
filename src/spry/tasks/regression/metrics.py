"""How near predicted numbers are to the true ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _nothing() -> NDArray[np.float64]:
    return np.zeros((0, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class RegressionMetrics:
    """Predicted and true numbers of all evaluated examples; add two to merge them.

    A rank correlation needs all pairs, so they are kept: 16 bytes an example.

    Args:
        pairs: Predictions and labels, shape (N, 2).
        unpaired: Examples whose pairs are not there, for they stay with a client.
        squares: Of these, the sum of squared errors.
        sizes: Of these, the sum of absolute errors.
    """

    loss_sum: float = 0.0
    pairs: NDArray[np.float64] = field(default_factory=_nothing)
    unpaired: int = 0
    squares: float = 0.0
    sizes: float = 0.0

    def __bool__(self) -> bool:
        return self.examples > 0

    def __add__(self, other: RegressionMetrics) -> RegressionMetrics:
        return RegressionMetrics(
            loss_sum=self.loss_sum + other.loss_sum,
            pairs=np.concatenate([self.pairs, other.pairs]),
            unpaired=self.unpaired + other.unpaired,
            squares=self.squares + other.squares,
            sizes=self.sizes + other.sizes,
        )

    @property
    def examples(self) -> int:
        return len(self.pairs) + self.unpaired

    @property
    def loss(self) -> float:
        """Mean loss; NaN without examples."""
        return self.loss_sum / self.examples if self.examples else math.nan

    def values(self) -> dict[str, float | None]:
        """Mean squared and absolute error, and the correlations of Pearson and of Spearman's ranks.

        A correlation is None where predictions or labels do not differ, or are not all there.
        """
        squares, sizes = self._errors()
        predicted, true = (_nothing() if self.unpaired else self.pairs).T
        return {
            "mse": squares / self.examples if self else None,
            "mae": sizes / self.examples if self else None,
            "pearson": correlation(predicted, true),
            "spearman": correlation(ranks(predicted), ranks(true)),
        }

    def sums(self) -> RegressionMetrics:
        """The same without pairs."""
        squares, sizes = self._errors()
        return RegressionMetrics(loss_sum=self.loss_sum, unpaired=self.examples, squares=squares, sizes=sizes)

    def _errors(self) -> tuple[float, float]:
        errors = self.pairs[:, 0] - self.pairs[:, 1]
        return self.squares + float(np.sum(errors**2)), self.sizes + float(np.sum(np.abs(errors)))


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Pearson's correlation; None where it is not defined."""
    if len(one) < 2:
        return None
    one, other = one - one.mean(), other - other.mean()
    norm = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / norm if norm > 0 else None


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
