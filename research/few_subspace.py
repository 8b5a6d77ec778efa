"""Subspaces of a few dimensions for the maps of a model: what their columns are, and what they are chosen by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from few_problem import MAPS, Model, Place, Subspace
from torch import Tensor

from spry.contrib.singular import left_singular
from spry.core.keys import Key

TEXTS = 64
"""Texts that a subspace is chosen by, where it is by text."""


def places(model: Model, blocks: Sequence[int], maps: Sequence[str]) -> list[Place]:
    return [(block, name) for block in blocks for name in MAPS if name in maps]


def of_weights(model: Model, where: Sequence[Place], rank: int) -> Subspace:
    """LoRA-XS: the first singular vectors of each weight."""
    columns = {}
    for place in where:
        w = model.weight(place)[0]
        columns[place] = (left_singular(w, rank).float(), left_singular(w.T, rank).float())
    return Subspace(columns=columns)


def random(model: Model, where: Sequence[Place], rank: int) -> Subspace:
    """Random orthonormal columns."""
    columns = {}
    for place in where:
        w = model.weight(place)[0]
        sides = [
            torch.linalg.qr(Key(6).normal(f"{side} {place}", (size, rank)).double())[0].float()
            for side, size in zip("uv", w.shape, strict=True)
        ]
        columns[place] = (sides[0], sides[1])
    return Subspace(columns=columns)


def of_margins(model: Model, states: Sequence[Tensor], where: Sequence[Place], rank: int) -> Subspace:
    """Without labels: eigenvectors of ``sum_i J_i J_i'`` and ``sum_i J_i' J_i``, J_i an example's Jacobian.

    J_i is the gradient, by a weight, of the difference between the scores of the first two classes.
    """
    found = _jacobians(model, states, where, None)
    return Subspace(columns={p: (_first(j, rank), _first(j.mT, rank)) for p, j in found.items()})


def of_gradient(
    model: Model, states: Sequence[Tensor], labels: Tensor, where: Sequence[Place], rank: int
) -> Subspace:
    """Fed-SB: the first singular vectors of the mean gradient of labelled texts."""
    columns = {}
    for place, j in _jacobians(model, states, where, labels).items():
        mean = j.mean(0, keepdim=True)
        u, vt = _first(mean, rank), _first(mean.mT, rank).T
        columns[place] = (u, vt.T.contiguous())
    return Subspace(columns=columns)


def _first(j: Tensor, rank: int, passes: int = 4) -> Tensor:
    """The first eigenvectors of ``sum_i J_i J_i'``, by subspace iteration; J has the shape (N, A, B)."""
    columns = Key(8).normal("first", (j.shape[1], 2 * rank))
    for _ in range(passes):
        q = torch.linalg.qr(columns)[0]
        columns = (j @ (j.mT @ q)).sum(0)
    order = torch.linalg.eigh(q.T @ columns).eigenvectors.flip(1)
    return (q @ order)[:, :rank].contiguous()


def _jacobians(
    model: Model, states: Sequence[Tensor], where: Sequence[Place], labels: Tensor | None
) -> dict[Place, Tensor]:
    """The gradient of each text's loss, or of its margin without labels, by each weight: shape (N, D_out, D_in).

    An update of each weight, one for each text, stands for it: ``U = I``, ``R = V = 0`` would take D_out squared.
    """
    found: dict[Place, list[Tensor]] = {place: [] for place in where}
    lowest = min(block for block, _ in where)
    named = {place: model.weight(place)[0] for place in where}
    for i, state in enumerate(states):
        for w in named.values():
            w.requires_grad_(True)
        scores = model.logits([state], lowest, {}, None)
        value = scores[0, 1] - scores[0, 0] if labels is None else F.cross_entropy(scores, labels[i : i + 1])
        for place, g in zip(named, torch.autograd.grad(value, list(named.values())), strict=True):
            found[place].append(g)
        for w in named.values():
            w.requires_grad_(False)
    return {place: torch.stack(rows) for place, rows in found.items()}
