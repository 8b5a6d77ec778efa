"""Scaled dot-product attention in blocks: scores exist for a few query rows, heads and examples at a time.

With weights ``P = softmax(S)``, ``S = scale q k' + mask`` and output ``O = P v``, a direction's derivative is
``dO = (P dS) v - rowsum(P dS) O + P dv`` where ``dS = scale (dq k' + q dk') + dmask`` and ``P dS`` is elementwise.
P is kept unnormalized; rows are divided by their sum at the end, when they are E wide instead of T.

Shapes: B batch, G key heads (groups), R query heads that share one, L queries, T keys, D and E head widths, K directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual, order, primal
from spry.forward.registry import rule

Drop = Callable[["Block"], Tensor]
"""Gives a block's dropout mask divided by the chance to be kept, shape (examples, groups, R, rows, keys)."""


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


@rule(F.scaled_dot_product_attention)
def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if query.dim() != 4:
        return _as_four_dimensional(query, key, value, attn_mask, dropout_p, is_causal, scale)
    drop = None if dropout_p == 0 else _torch_drop(query, key, dropout_p)
    return attend(query, key, value, attn_mask, is_causal=is_causal, scale=scale, drop=drop)


def _as_four_dimensional(
    query: Any, key: Any, value: Any, mask: Any, dropout_p: float, causal: bool, scale: Any
) -> Any:
    """Fold all leading dimensions into the batch, with one head."""
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    folded = [x.expand(*lead, *x.shape[-2:]).reshape(-1, 1, *x.shape[-2:]) for x in (query, key, value)]
    if mask is not None:
        mask = mask.expand(*lead, query.shape[-2], key.shape[-2]).reshape(
            -1, 1, query.shape[-2], key.shape[-2]
        )
    return _attention(*folded, mask, dropout_p, causal, scale).reshape(
        *lead, query.shape[-2], value.shape[-1]
    )


def _torch_drop(query: Tensor, key: Tensor, p: float) -> Drop:
    """Masks from PyTorch's generator, one for the value and all derivatives."""
    repeats = query.shape[1] // key.shape[1]

    def drop(block: Block) -> Tensor:
        sizes = [s.stop - s.start for s in (block.examples, block.groups, block.rows)]
        shape = (*sizes[:2], repeats, sizes[2], block.keys)
        return F.dropout(torch.ones(shape, device=query.device), p)

    return drop


def attend(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    *,
    is_causal: bool = False,
    scale: Any = None,
    drop: Drop | None = None,
) -> Dual:
    """Compute attention of dual numbers, block by block.

    Args:
        query: Shape (B, G R, L, D), dual or plain, as the others.
        key: Shape (B, G, T, D).
        value: Shape (B, G, T, E).
        mask: True or 0 where a query may attend; broadcasts to (B, G R, L, T).
        is_causal: Let query i attend to the keys up to i only.
        scale: Factor of the scores, ``D ** -0.5`` by default.
        drop: Dropout masks of the weights.

    Returns:
        Shape (B, G R, L, E), in the memory order of (B, L, G R, E).
    """
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1:3]
    repeats, out_width = heads // groups, value.shape[-1]
    scale = width**-0.5 if scale is None else scale
    mask = None if mask is None else mask.expand(batch, heads, queries, keys).unflatten(1, (groups, repeats))
    q, k, v = query.unflatten(1, (groups, repeats)), key, value
    size = (batch, queries, groups, repeats, out_width)
    results = [
        torch.empty(size, dtype=query.dtype, device=query.device)
        for _ in range(1 + order(query, key, value, mask))
    ]
    for block in _blocks((batch, groups, repeats, queries, keys), is_causal, _budget(query.device)):
        parts = _attend_block(block, q, k, v, mask, is_causal, scale, drop)
        for result, part in zip(results, parts, strict=True):
            result[block.examples, block.rows, block.groups] = part.permute(0, 3, 1, 2, 4)
    out, *tangents = (result.flatten(2, 3).transpose(1, 2) for result in results)
    return Dual(out, tangents)


def _budget(device: torch.device) -> int:
    """Scores in a block: what a CPU's caches hold, what keeps a GPU busy."""
    return 1 << (18 if device.type == "cpu" else 23)


def _blocks(sizes: tuple[int, int, int, int, int], causal: bool, budget: int) -> Iterator[Block]:
    batch, groups, repeats, queries, keys = sizes
    rows = max(1, min(queries, max(64, budget // max(1, keys)) // repeats))
    group = max(1, min(groups, budget // max(1, repeats * rows * keys)))
    examples = max(1, min(batch, budget // max(1, groups * repeats * rows * keys))) if group == groups else 1
    for b in range(0, batch, examples):
        for g in range(0, groups, group):
            for i in range(0, queries, rows):
                stop = min(i + rows, queries)
                yield Block(
                    slice(b, min(b + examples, batch)),
                    slice(g, min(g + group, groups)),
                    slice(i, stop),
                    min(keys, stop) if causal else keys,
                )


def _attend_block(
    block: Block, query: Any, key: Any, value: Any, mask: Any, causal: bool, scale: float, drop: Drop | None
) -> list[Tensor]:
    """Value and derivatives of one block, shape (examples, groups, R, rows, E) each."""
    shape = (*query[block.examples, block.groups, :, block.rows].shape[:-1], block.keys)

    def rows(x: Tensor) -> Tensor:
        return (
            _wide(x[block.examples, block.groups, :, block.rows])
            .mul(scale)
            .reshape(shape[0] * shape[1], -1, x.shape[-1])
        )

    def columns(x: Tensor) -> Tensor:
        return _wide(x[block.examples, block.groups, : block.keys]).reshape(
            shape[0] * shape[1], -1, x.shape[-1]
        )

    def hide(x: Tensor) -> Tensor:
        return x[block.examples, block.groups, :, block.rows, : block.keys]

    q, k, v = rows(primal(query)), columns(primal(key)).transpose(1, 2), columns(primal(value))
    scores = torch.bmm(q, k)
    _mask_scores(
        scores.view(shape), None if mask is None else hide(primal(mask)), block.rows.start if causal else None
    )
    weights, inverse = _exponentials(scores)
    kept = weights if drop is None else weights * drop(block).to(weights.dtype).reshape(weights.shape)
    out = torch.bmm(kept, v).mul_(inverse)
    results = [out]
    for n in range(order(query, key, value, mask)):
        total = None
        if isinstance(query, Dual) or isinstance(key, Dual) or isinstance(mask, Dual):
            ds = torch.bmm(rows(query.tangents[n]), k) if isinstance(query, Dual) else None
            if isinstance(key, Dual):
                dk = columns(key.tangents[n]).transpose(1, 2)
                ds = torch.bmm(q, dk) if ds is None else ds.baddbmm_(q, dk)
            if isinstance(mask, Dual):
                dm = hide(mask.tangents[n]).to(scores.dtype).reshape(scores.shape)
                ds = dm.clone() if ds is None else ds.add_(dm)
            assert ds is not None
            slope = ds.mul_(weights).sum(-1, keepdim=True).mul_(inverse)
            if drop is not None:
                ds.mul_(kept).div_(weights.clamp_min(torch.finfo(weights.dtype).tiny))
            total = torch.bmm(ds, v).mul_(inverse).addcmul_(out, slope, value=-1)
        if isinstance(value, Dual):
            dv = columns(value.tangents[n])
            carried = torch.bmm(kept, dv).mul_(inverse)
            total = carried if total is None else total.add_(carried)
        assert total is not None
        results.append(total)
    return [part.view(*shape[:-1], -1) for part in results]


def _mask_scores(scores: Tensor, mask: Tensor | None, causal_start: int | None) -> None:
    if mask is not None and mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -torch.inf)
    elif mask is not None:
        scores.add_(mask)
    if causal_start is not None:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(causal_start + 1)
        scores.masked_fill_(later, -torch.inf)


def _exponentials(scores: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(S - max)`` in place of the scores, and one over each row's sum; zeros where a row may attend to nothing."""
    if scores.shape[-1] == 0:
        return scores, scores.new_zeros(*scores.shape[:-1], 1)
    top = scores.amax(-1, keepdim=True)
    weights = scores.sub_(top.masked_fill_(top == -torch.inf, 0)).exp_()
    total = weights.sum(-1, keepdim=True)
    return weights, total.clamp_min_(torch.finfo(total.dtype).tiny).reciprocal_()


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
