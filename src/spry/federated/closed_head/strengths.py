"""How strong a ridge is: what makes the targets likeliest, with the features' weights drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.federated.closed_head.moments import HeadMoments

_TRIED = torch.logspace(6, -4, 101, dtype=torch.float64)
"""What is tried, in mean variances of a feature, the first of equals being taken: beyond it only the mean is left, and
below the last, float32 has rounded the scatter."""
_LEAST = 1e-6
"""Share of the targets' variance that is never explained: float32 has rounded the products."""


def strengths(sums: HeadMoments) -> Tensor:
    """The strength of each target, shape (C,), of the least ``(n - 1) log q + sum_d log(1 + s_d / l)``.

    ``s_d`` are the eigenvalues of the features' covariance, and ``q = v - sum_d a_d^2 / (s_d + l)`` with the variance v
    of the target and its covariances a with the features along the eigenvectors.

    Source:
        Patterson & Thompson 1971, restricted likelihood; it is MacKay's (1992) evidence.
    """
    tried, unlikely = _unlikely(sums)
    return tried[unlikely.argmin(dim=1)]


def common_strength(sums: HeadMoments) -> float:
    """The strength that all targets share: the one of the least sum of what ``strengths`` minimizes for each."""
    tried, unlikely = _unlikely(sums)
    return float(tried[unlikely.sum(0).argmin()])


def spectrum(sums: HeadMoments) -> tuple[Tensor, Tensor]:
    """The eigenvalues of the features' covariance, shape (D,), and its eigenvectors in columns, shape (D, D)."""
    values, directions = torch.linalg.eigh(sums.scatter / sums.examples)
    return values.clamp(min=0), directions


def _unlikely(sums: HeadMoments) -> tuple[Tensor, Tensor]:
    """What is tried, shape (T,), and how unlikely it makes each target, shape (C, T)."""
    values, directions = spectrum(sums)
    along = sums.cross / sums.examples @ directions
    tried = _TRIED * (float(values.mean()) or 1.0)
    variance = (sums.squares / sums.examples).clamp(min=torch.finfo(torch.float64).tiny)
    explained = along**2 @ (1 / (values[:, None] + tried))  # no array of targets by strengths by features
    left = 1 - explained / variance[:, None]
    complexity = torch.log1p(values / tried[:, None]).sum(1)
    return tried, (sums.examples - 1) * left.clamp(min=_LEAST).log() + complexity
