"""MiniLM from some block on, with a small square matrix in each adapted map and a group of examples for each client.

Everything below the lowest adapted block is frozen, so its output is computed once for each text. All clients of a
round go through the model together, each with its own matrices; the last block computes the first position alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAPS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
"""The linear maps of a BERT block, by short names."""
Place = tuple[int, str]
"""A map: its block, from 0, and its short name."""


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """Frozen columns for each adapted map: ``W + U R V'``, U of shape (D_out, r), V of shape (D_in, r)."""

    columns: Mapping[Place, tuple[Tensor, Tensor]]

    @property
    def places(self) -> list[Place]:
        return list(self.columns)

    @property
    def rank(self) -> int:
        return next(iter(self.columns.values()))[0].shape[1]

    @property
    def lowest(self) -> int:
        return min(block for block, _ in self.columns)

    def size(self) -> int:
        """How many numbers are trained, d."""
        return len(self.columns) * self.rank**2


@dataclass(eq=False)
class Model:
    """The blocks of a BERT classifier as plain tensors; ``head`` is the weight and bias of its last map."""

    bert: Any
    head: tuple[Tensor, Tensor]
    heads: int
    eps: float
    known: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def weight(self, place: Place) -> tuple[Tensor, Tensor]:
        block, name = place
        module = self.bert.encoder.layer[block].get_submodule(MAPS[name])
        module = getattr(module, "base_layer", module)
        return module.weight, module.bias

    @property
    def depth(self) -> int:
        return len(self.bert.encoder.layer)

    @torch.no_grad()
    def states(self, tokens: Sequence[Sequence[int]], ids: Sequence[int], block: int) -> list[Tensor]:
        """The input of a block for each text, shape (T, D); ``ids`` are the texts' names for the memory."""
        missing = [(i, t) for i, t in zip(ids, tokens, strict=True) if (i, block) not in self.known]
        missing.sort(key=lambda pair: len(pair[1]))
        for start in range(0, len(missing), 64):
            part = missing[start : start + 64]
            longest = max(len(t) for _, t in part)
            words = torch.tensor([[*t, *[0] * (longest - len(t))] for _, t in part])
            there = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for _, t in part]).bool()
            hidden = self.bert.embeddings(words)
            for below in range(block):
                hidden = self._block(below, hidden, there, {}, None)
            for (i, t), one in zip(part, hidden, strict=True):
                self.known[i, block] = one[: len(t)].clone()
        return [self.known[i, block] for i in ids]

    def logits(
        self, states: Sequence[Tensor], start: int, squares: Mapping[Place, Any], groups: Tensor | None
    ) -> Tensor:
        """Scores, shape (B, C), from the input of block ``start`` on.

        Args:
            squares: For each adapted map U, V and the matrices of all groups, shape (G, r, r).
            groups: The group of each example, shape (B,).
        """
        lengths = torch.tensor([len(one) for one in states])
        hidden = torch.nn.utils.rnn.pad_sequence(list(states), batch_first=True)
        there = torch.arange(hidden.shape[1])[None] < lengths[:, None]
        for block in range(start, self.depth):
            hidden = self._block(block, hidden, there, squares, groups)
        pooler = self.bert.pooler.dense
        pooled = torch.tanh(F.linear(hidden[:, 0], pooler.weight, pooler.bias))
        return F.linear(pooled, *self.head)

    def _map(self, place: Place, x: Tensor, squares: Mapping[Place, Any], groups: Tensor | None) -> Tensor:
        y = F.linear(x, *self.weight(place))
        if place not in squares:
            return y
        u, v, r = squares[place]
        return y + torch.einsum("bts,brs->btr", x @ v, r[groups]) @ u.T

    def _block(
        self, block: int, x: Tensor, there: Tensor, squares: Mapping[Place, Any], groups: Tensor | None
    ) -> Tensor:
        layer = self.bert.encoder.layer[block]
        own = x[:, :1] if block == self.depth - 1 else x

        def linear(name: str, given: Tensor) -> Tensor:
            return self._map((block, name), given, squares, groups)

        def split(z: Tensor) -> Tensor:
            return z.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(linear("query", own)), split(linear("key", x)), split(linear("value", x))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])
        own = self._norm(layer.attention.output, own + linear("out", mixed.transpose(1, 2).flatten(2)))
        return self._norm(layer.output, own + linear("down", F.gelu(linear("up", own))))

    def _norm(self, module: Any, x: Tensor) -> Tensor:
        norm = module.LayerNorm
        return F.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, self.eps)


def gradients(
    model: Model,
    states: Sequence[Tensor],
    labels: Tensor,
    groups: Tensor,
    subspace: Subspace,
    at: Tensor,
) -> tuple[Tensor, Tensor]:
    """The mean loss of each group, shape (G,), and its exact gradient by the numbers of the group, shape (G, d).

    Args:
        at: What each group's matrices are, shape (G, d).
    """
    leaf = at.detach().clone().requires_grad_()
    scores = model.logits(states, subspace.lowest, squares_of(subspace, leaf), groups)
    losses = F.cross_entropy(scores, labels, reduction="none")
    counts = torch.bincount(groups, minlength=len(at)).clamp(min=1)
    means = torch.zeros(len(at)).index_add(0, groups, losses) / counts
    (found,) = torch.autograd.grad(means.sum(), leaf)
    return means.detach(), found


def squares_of(subspace: Subspace, at: Tensor) -> dict[Place, Any]:
    r = subspace.rank
    parts = at.split(r * r, dim=1)
    return {
        place: (u, v, part.reshape(-1, r, r))
        for (place, (u, v)), part in zip(subspace.columns.items(), parts, strict=True)
    }


@torch.no_grad()
def evaluate(
    model: Model, states: Sequence[Tensor], labels: Tensor, subspace: Subspace, at: Tensor
) -> tuple[float, float]:
    """Accuracy and mean loss; ``at`` has the shape (d,)."""
    right, loss = 0, 0.0
    order = sorted(range(len(states)), key=lambda i: len(states[i]))
    squares = squares_of(subspace, at[None])
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        groups = torch.zeros(len(part), dtype=torch.long)
        scores = model.logits([states[i] for i in part], subspace.lowest, squares, groups)
        wanted = labels[part]
        right += int((scores.argmax(1) == wanted).sum())
        loss += float(F.cross_entropy(scores, wanted, reduction="sum"))
    return right / len(order), loss / len(order)


def flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])
