"""One block of scaled dot-product attention on dual numbers.

With scores ``S = scale q k' + mask``, weights ``P = softmax(S)`` and output ``O = P v``, a direction's derivative is
``dO = dP v + P dv`` where ``dP = P (dS - rowsum(P dS))``, elementwise, and ``dS = scale (dq k' + q dk') + dmask``.

Shapes: n examples, g key heads (groups), R query heads that share one, c query rows, T keys, D and E head widths;
``m = n g`` matrices of ``R c`` rows go through one batched product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spry.forward.dual import Dual, num_tangents, primal


@dataclass(frozen=True)
class Block:
    """Which scores are computed together: ranges of the batch, key heads and queries, and the number of first keys."""

    examples: slice
    groups: slice
    rows: slice
    keys: int


Drop = Callable[[Block], Tensor]
"""Gives a block's dropout mask divided by the chance to be kept, shape (n, g, R, c, T)."""


def attend_block(
    query: Any, key: Any, value: Any, mask: Any, causal_from: int | None, scale: float, drop: Tensor | None
) -> list[Tensor]:
    """Compute attention where all scores exist at once: its value and each direction's derivative, (n, g, R, c, E).

    ``query`` has the shape (n, g, R, c, D), ``key`` (n, g, T, D) and ``value`` (n, g, T, E), each dual or plain.
    ``mask`` is True or 0 where a query may attend, and broadcasts to (n, g, R, c, T). ``causal_from`` is the first
    query's position, if query i may attend to the keys up to i only. ``drop`` is a ``Drop``'s mask.
    """
    shape = (*query.shape[:-1], key.shape[-2])
    q, k, v = _matrices(primal(query)).mul(scale), _matrices(primal(key)).mT, _matrices(primal(value))
    scores = torch.bmm(q, k)
    dead = _mask_scores(scores.view(shape), primal(mask), causal_from)
    weights = torch.softmax(scores, -1)
    del scores
    drop = None if drop is None else drop.to(weights.dtype).reshape(weights.shape)
    kept = weights if drop is None else weights * drop
    results = [torch.bmm(kept, v)]
    moving = any(isinstance(x, Dual) for x in (query, key, mask))
    for n in range(num_tangents(query, key, value, mask)):
        total = None
        if moving:
            dp = push_softmax(_score_tangent(query, key, mask, q, k, scale, n), weights)
            total = torch.bmm(dp if drop is None else dp.mul_(drop), v)
            del dp
        if isinstance(value, Dual):
            dv = _matrices(value.tangents[n])
            total = torch.bmm(kept, dv) if total is None else total.baddbmm_(kept, dv)
        assert total is not None
        results.append(total)
    results = [part.view(*shape[:-1], -1) for part in results]
    return results if dead is None else [part.masked_fill_(dead, 0) for part in results]


def push_softmax(t: Tensor, p: Tensor, dim: int = -1) -> Tensor:
    """``p (t - <p, t>)``: the Jacobian ``diag(p) - p p'`` is symmetric, so its backward kernel is its forward rule."""
    return torch.ops.aten._softmax_backward_data(t, p, dim, p.dtype)


def _score_tangent(query: Any, key: Any, mask: Any, q: Tensor, k: Tensor, scale: float, n: int) -> Tensor:
    """``scale (dq k' + q dk') + dmask``; ``q`` is scaled already."""
    total = None
    if isinstance(query, Dual):
        total = torch.bmm(_matrices(query.tangents[n]).mul(scale), k)
    if isinstance(key, Dual):
        dk = _matrices(key.tangents[n]).mT
        total = torch.bmm(q, dk) if total is None else total.baddbmm_(q, dk)
    if isinstance(mask, Dual):
        dm = mask.tangents[n].to(q.dtype).expand(*query.shape[:-1], key.shape[-2])
        dm = dm.reshape(q.shape[0], q.shape[1], -1)
        total = dm.clone() if total is None else total.add_(dm)
    assert total is not None
    return total


def _matrices(x: Tensor) -> Tensor:
    """Shape (n g, R c or T, width); half precision is widened, as fused kernels accumulate in float32."""
    x = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def _mask_scores(scores: Tensor, mask: Tensor | None, causal_from: int | None) -> Tensor | None:
    """Hide scores in place; tell which queries may attend to nothing: their softmax is NaN, their output zero."""
    later = None
    if causal_from is not None:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(causal_from + 1)
        scores.masked_fill_(later, -torch.inf)
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        hidden = ~mask
        scores.masked_fill_(hidden, -torch.inf)
    else:
        hidden = mask == -torch.inf
        scores.add_(mask)
    return (hidden if later is None else hidden | later).all(-1, keepdim=True)
