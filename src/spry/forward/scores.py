"""One block of scaled dot-product attention on dual numbers.

With weights ``P = softmax(S)``, ``S = scale q k' + mask`` and output ``O = P v``, a direction's derivative is
``dO = (P dS) v - rowsum(P dS) O + P dv`` where ``dS = scale (dq k' + q dk') + dmask`` and ``P dS`` is elementwise.
P is kept unnormalized; rows are divided by their sum at the end, when they are E wide instead of T.

Shapes: n examples, g key heads (groups), R query heads that share one, c query rows, T keys, D and E head widths;
``m = n g`` matrices of ``R c`` rows go through one batched product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spry.forward.dual import Dual, order, primal


@dataclass(frozen=True)
class Block:
    """Which scores are computed together.

    Args:
        examples: A range of the batch.
        groups: A range of the key heads.
        rows: A range of the queries.
        keys: How many keys, from the first one, these queries may attend to.
    """

    examples: slice
    groups: slice
    rows: slice
    keys: int


Drop = Callable[[Block], Tensor]
"""Gives a block's dropout mask divided by the chance to be kept, shape (n, g, R, c, T)."""


def attend_block(
    query: Any, key: Any, value: Any, mask: Any, causal_from: int | None, scale: float, drop: Tensor | None
) -> list[Tensor]:
    """Compute attention where all scores exist at once.

    Args:
        query: Shape (n, g, R, c, D), dual or plain, as the others.
        key: Shape (n, g, T, D).
        value: Shape (n, g, T, E).
        mask: True or 0 where a query may attend, shape (n, g, R, c, T), or None.
        causal_from: The first query's position, if query i may attend to the keys up to i only.
        scale: Factor of the scores.
        drop: Dropout mask of the weights divided by the chance to be kept, shape (n, g, R, c, T), or None.

    Returns:
        The value and each direction's derivative, shape (n, g, R, c, E).
    """
    shape = (*query.shape[:-1], key.shape[-2])
    q, k, v = _matrices(primal(query)).mul(scale), _matrices(primal(key)).mT, _matrices(primal(value))
    scores = torch.bmm(q, k)
    _mask_scores(scores.view(shape), primal(mask), causal_from)
    weights, inverse = _exponentials(scores)
    kept = weights if drop is None else weights * drop.to(weights.dtype).reshape(weights.shape)
    out = torch.bmm(kept, v).mul_(inverse)
    results = [out]
    moving = any(isinstance(x, Dual) for x in (query, key, mask))
    for n in range(order(query, key, value, mask)):
        terms = []
        if moving:
            ds = _score_tangent(query, key, mask, q, k, scale, n).mul_(weights)
            slope = ds.sum(-1, keepdim=True).mul_(inverse)
            ds = ds if drop is None else ds.mul_(drop.to(ds.dtype).reshape(ds.shape))
            terms.append(torch.bmm(ds, v).mul_(inverse).addcmul_(out, slope, value=-1))
        if isinstance(value, Dual):
            terms.append(torch.bmm(kept, _matrices(value.tangents[n])).mul_(inverse))
        results.append(terms[0] if len(terms) == 1 else terms[0].add_(terms[1]))
    return [part.view(*shape[:-1], -1) for part in results]


def _score_tangent(query: Any, key: Any, mask: Any, q: Tensor, k: Tensor, scale: float, n: int) -> Tensor:
    """``scale (dq k' + q dk') + dmask``; ``q`` is scaled already."""
    total = None
    if isinstance(query, Dual):
        total = torch.bmm(_matrices(query.tangents[n]).mul(scale), k)
    if isinstance(key, Dual):
        dk = _matrices(key.tangents[n]).mT
        total = torch.bmm(q, dk) if total is None else total.baddbmm_(q, dk)
    if isinstance(mask, Dual):
        dm = mask.tangents[n].to(q.dtype).reshape(q.shape[0], q.shape[1], -1)
        total = dm.clone() if total is None else total.add_(dm)
    assert total is not None
    return total


def _matrices(x: Tensor) -> Tensor:
    """Shape (n g, R c or T, width); half precision is widened, as fused kernels accumulate in float32."""
    x = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def _mask_scores(scores: Tensor, mask: Tensor | None, causal_from: int | None) -> None:
    if mask is not None and mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -torch.inf)
    elif mask is not None:
        scores.add_(mask)
    if causal_from is not None:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(causal_from + 1)
        scores.masked_fill_(later, -torch.inf)


def _exponentials(scores: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(S - max)`` in place of the scores, and one over each row's sum; zeros where a row may attend to nothing."""
    if scores.numel() == 0:
        return scores, scores.new_zeros(*scores.shape[:-1], 1)
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top.masked_fill_(top == -torch.inf, 0)).exp_()
    total = weights.sum(-1, keepdim=True)
    return weights, total.clamp_min_(torch.finfo(total.dtype).tiny).reciprocal_()
