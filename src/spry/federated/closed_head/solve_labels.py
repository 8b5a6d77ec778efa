"""From moments to a head for labels: each is told from the rest by linear discriminant analysis, as two classes are."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.solve import Head, solve, with_height
from spry.federated.closed_head.solve_numbers import strengths
from spry.federated.closed_head.sums import HeadSums


def solve_labels(sums: HeadMoments, *, bias: bool = True) -> Head:
    """Fit normal distributions to the examples with and without each label; scores are its log-odds.

    With means ``m_1`` and ``m_0``: ``W_c = (S_c + l_c)^-1 (m_1 - m_0)`` and
    ``b_c = -1/2 (m_1 + m_0)' W_c + log(n_1 / n_0)``. The strength ``l_c`` is that of ridge regression onto the label,
    which has the same direction: where features say nothing of it, only the bias is left. A label that all examples
    have, or none, has the weight 0 and the bias
    ``log((n_1 + 1/2) / (n_0 + 1/2))``.

    Args:
        sums: Of all examples; targets are 0 or 1.
        bias: Whether the head has one; without, it is spread over the features, as for classes.
    """
    counts = sums.counts.tolist()
    varies = [0 < count < sums.examples for count in counts]
    strength = strengths(sums)
    heads = [
        _told_apart(sums, label, float(strength[label]), bias=bias)
        if told
        else _fixed(sums, count, strength[label], bias=bias)
        for label, (count, told) in enumerate(zip(counts, varies, strict=True))
    ]
    return Head(torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads]))


def with_and_without(sums: HeadMoments, label: int) -> HeadSums:
    """Take the sums of two classes, without a label (0) and with it (1), out of the moments.

    ``m_1 = m + c / n_1`` and ``m_0 = m - c / n_0`` with ``c = sum (y - t)(x - m)``, and the scatter within classes is
    ``S - (1/n_0 + 1/n_1) c c'``.
    """
    there = int(sums.counts[label])
    counts = torch.tensor([sums.examples - there, there])
    cross = sums.cross[label]
    means = sums.mean + torch.tensor([-1.0, 1.0]).to(cross)[:, None] * cross / counts[:, None]
    between = float((1 / counts.double()).sum()) * cross.outer(cross)
    return HeadSums(counts=counts, means=means, scatter=sums.scatter - between)


def _told_apart(sums: HeadMoments, label: int, strength: float, *, bias: bool) -> Head:
    rest, told = 0, 1
    two = solve(with_and_without(sums, label), bias=bias, strength=strength)
    return Head(two.weight[told] - two.weight[rest], two.bias[told] - two.bias[rest])


def _fixed(sums: HeadMoments, count: int, strength: Tensor, *, bias: bool) -> Head:
    height = torch.tensor([(count + 0.5) / (sums.examples - count + 0.5)], dtype=torch.float64).log()
    head = with_height(sums, torch.zeros_like(sums.mean)[None], height, strength[None], bias=bias)
    return Head(head.weight[0], head.bias[0])
