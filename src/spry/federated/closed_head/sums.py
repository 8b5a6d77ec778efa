"""The sums of a client's features: how many examples each class has, their mean, and how they scatter about it.

They are those of ``X'X`` and ``X'Y`` with the means taken out, so that no common offset eats their digits. Sums of two
parts add up to those of the whole, whatever the parts are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.federated.closed_head.moments import HeadMoments


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadSums:
    """Sums over examples with features x of length D and classes 0 to C - 1, in float64 on the CPU.

    Args:
        counts: Examples of each class, ``n_c``, shape (C,), int64.
        means: The classes' mean features, ``m_c``, shape (C, D); zero where a class has no example.
        scatter: ``sum_c sum_{y=c} (x - m_c)(x - m_c)'``, shape (D, D), symmetric.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, classes: int, features: int) -> HeadSums:
        return cls(
            counts=torch.zeros(classes, dtype=torch.int64),
            means=torch.zeros(classes, features, dtype=torch.float64),
            scatter=torch.zeros(features, features, dtype=torch.float64),
        )

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int) -> HeadSums:
        """Sum up a batch of features, shape (B, D), with classes, shape (B,)."""
        features, labels = features.detach().cpu().double(), labels.cpu()
        counts = torch.bincount(labels, minlength=classes)
        members = F.one_hot(labels, classes).to(features.dtype)
        means = members.T @ features / counts.clamp(min=1)[:, None]
        centred = features - means[labels]
        return cls(counts=counts, means=means, scatter=centred.T @ centred)

    @property
    def examples(self) -> int:
        return int(self.counts.sum())

    @property
    def classes(self) -> int:
        return len(self.counts)

    @property
    def features(self) -> int:
        return self.means.shape[1]

    def moments(self) -> HeadMoments:
        """Take them as moments whose targets are 1 for an example's class and 0 for the others.

        With ``d_c = m_c - m``: the scatter is ``S + sum_c n_c d_c d_c'``, and the products are ``n_c d_c``.
        """
        counts, examples = self.counts.double(), self.examples
        share = counts / max(examples, 1)
        mean = share @ self.means
        cross = counts[:, None] * (self.means - mean)
        return HeadMoments(
            examples=examples,
            mean=mean,
            target=share,
            scatter=self.scatter + cross.T @ (self.means - mean),
            cross=cross,
            squares=counts * (1 - share),
        )

    def add(self, other: HeadSums) -> HeadSums:
        """Sum over both parts' examples.

        ``S = S_1 + S_2 + sum_c n_1c n_2c / (n_1c + n_2c) (m_1c - m_2c)(m_1c - m_2c)'`` (Chan, Golub & LeVeque 1983).
        """
        counts = self.counts + other.counts
        share = other.counts.double() / counts.clamp(min=1)
        apart = other.means - self.means
        means = self.means + share[:, None] * apart
        between = apart * (self.counts * share)[:, None]
        return HeadSums(counts=counts, means=means, scatter=self.scatter + other.scatter + apart.T @ between)


def pooled(parts: Iterable[HeadSums], like: HeadSums) -> HeadSums:
    """Sum over all parts' examples; none gives ``like``, which is empty."""
    return reduce(HeadSums.add, parts, like)
