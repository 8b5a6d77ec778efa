"""The sums of a client's features and targets: their means, how both scatter about them, and how they go together.

They hold where an example is not of one class: its target y is a number, or 0 or 1 for each of C labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadMoments:
    """Sums over examples with features x of length D and targets y of length C, in float64 on the CPU.

    Args:
        examples: How many there are, ``n``.
        mean: The mean features ``m``, shape (D,); zero without examples.
        target: The mean targets ``t``, shape (C,); zero without examples.
        scatter: ``sum (x - m)(x - m)'``, shape (D, D), symmetric.
        cross: ``sum (y - t)(x - m)'``, shape (C, D).
        squares: ``sum (y - t)^2``, shape (C,).
    """

    examples: int
    mean: Tensor
    target: Tensor
    scatter: Tensor
    cross: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, targets: int, features: int) -> HeadMoments:
        return cls(
            examples=0,
            mean=torch.zeros(features, dtype=torch.float64),
            target=torch.zeros(targets, dtype=torch.float64),
            scatter=torch.zeros(features, features, dtype=torch.float64),
            cross=torch.zeros(targets, features, dtype=torch.float64),
            squares=torch.zeros(targets, dtype=torch.float64),
        )

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, targets: int) -> HeadMoments:
        """Sum up a batch of features, shape (B, D), with targets, shape (B, C), or (B,) for a single one."""
        if not len(features):
            return cls.empty(targets, features.shape[1])
        x = features.detach().cpu().double()
        y = labels.detach().cpu().double().reshape(len(x), targets)
        mean, target = x.mean(0), y.mean(0)
        x, y = x - mean, y - target
        return cls(
            examples=len(x),
            mean=mean,
            target=target,
            scatter=x.T @ x,
            cross=y.T @ x,
            squares=(y**2).sum(0),
        )

    @property
    def targets(self) -> int:
        return len(self.target)

    @property
    def features(self) -> int:
        return len(self.mean)

    @property
    def counts(self) -> Tensor:
        """Of targets that are 0 or 1, how many examples have each, shape (C,), int64."""
        return (self.examples * self.target).round().long()

    def add(self, other: HeadMoments) -> HeadMoments:
        """Sum over both parts' examples.

        ``sum (a - mean a)(b - mean b) = S_1 + S_2 + n_1 n_2 / (n_1 + n_2) (a_1 - a_2)(b_1 - b_2)``, in means ``a_i``
        and ``b_i`` of the parts (Chan, Golub & LeVeque 1983).
        """
        examples = self.examples + other.examples
        share = other.examples / max(examples, 1)
        between = self.examples * share
        x, y = other.mean - self.mean, other.target - self.target
        return HeadMoments(
            examples=examples,
            mean=self.mean + share * x,
            target=self.target + share * y,
            scatter=self.scatter + other.scatter + between * x.outer(x),
            cross=self.cross + other.cross + between * y.outer(x),
            squares=self.squares + other.squares + between * y**2,
        )
