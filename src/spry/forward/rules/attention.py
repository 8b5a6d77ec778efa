"""Scaled dot-product attention: scores exist for a few query rows, heads and examples at a time, and so do deferred
queries, keys and values (``spry.forward.scores`` has the mathematics of one block).

Shapes: B batch, G key heads (groups), R query heads that share one, L queries, T keys, D and E head widths, K directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.deferred import Deferred, pending, run, window
from spry.forward.dual import Dual, order
from spry.forward.program import sorted_steps
from spry.forward.registry import rule
from spry.forward.scores import Block, Drop, attend_block

SCORES = {"cpu": 1 << 18, "cuda": 1 << 23}
"""Scores in one block, by kind of device: what a CPU's caches hold, what keeps a GPU busy."""


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
    query: Any, key: Any, value: Any, mask: Any, dropout_p: float, causal: bool, scale: float | None
) -> Any:
    """Fold all leading dimensions into the batch, with one head."""
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    folded = [x.expand(*lead, *x.shape[-2:]).reshape(-1, 1, *x.shape[-2:]) for x in (query, key, value)]
    sizes = (query.shape[-2], key.shape[-2])
    mask = None if mask is None else mask.expand(*lead, *sizes).reshape(-1, 1, *sizes)
    return _attention(*folded, mask, dropout_p, causal, scale).reshape(*lead, sizes[0], value.shape[-1])


def _torch_drop(query: Tensor, key: Tensor, p: float) -> Drop:
    """Masks from PyTorch's generator, one for the value and all derivatives."""
    repeats = query.shape[1] // key.shape[1]

    def drop(block: Block) -> Tensor:
        sizes = [part.stop - part.start for part in (block.examples, block.groups, block.rows)]
        return F.dropout(torch.ones(*sizes[:2], repeats, sizes[2], block.keys, device=query.device), p)

    return drop


def attend(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
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
    sizes = (batch, groups, heads // groups, queries, keys)
    scale = width**-0.5 if scale is None else scale
    mask = None if mask is None else _grouped(mask, groups)
    shape = (batch, queries, groups, heads // groups, value.shape[-1])
    count = 1 + _directions(query, key, value, mask)
    results = [torch.empty(shape, dtype=query.dtype, device=query.device) for _ in range(count)]
    for block, q, k, v in _blocks(query, key, value, sizes, is_causal):
        hidden = None if mask is None else _part(mask, _mask_index(mask, block))
        start = block.rows.start if is_causal else None
        parts = attend_block(q, k, v, hidden, start, scale, None if drop is None else drop(block))
        for result, part in zip(results, parts, strict=True):
            result[block.examples, block.rows, block.groups] = part.permute(0, 3, 1, 2, 4)
    out, *tangents = (result.flatten(2, 3).transpose(1, 2) for result in results)
    return Dual(out, tangents)


def _grouped(mask: Any, groups: int) -> Any:
    """Shape (B, G, R, L, T), ones where the mask broadcasts."""
    mask = mask[(None,) * (4 - mask.dim())]
    return mask.unflatten(1, (groups, -1)) if mask.shape[1] > 1 else mask.unsqueeze(2)


def _mask_index(mask: Tensor, block: Block) -> tuple[slice, ...]:
    whole = slice(None)
    parts = (block.examples, block.groups, whole, block.rows, slice(block.keys))
    return tuple(part if size > 1 else whole for part, size in zip(parts, mask.shape, strict=True))


def _directions(*values: Any) -> int:
    return next(x.directions if isinstance(x, Deferred) else order(x) for x in values if isinstance(x, Dual))


def _blocks(
    query: Any, key: Any, value: Any, sizes: tuple[int, int, int, int, int], causal: bool
) -> Iterator[tuple[Block, Any, Any, Any]]:
    """The blocks, each with its part of query (n, g, R, c, D), key (n, g, T, D) and value (n, g, T, E)."""
    batch, groups, repeats, queries, keys = sizes
    budget = SCORES.get(query.device.type, SCORES["cuda"])
    rows = max(1, min(queries, max(64, budget // max(1, keys)) // repeats))
    group = max(1, min(groups, budget // max(1, repeats * rows * keys)))
    examples = max(1, min(batch, budget // max(1, groups * repeats * rows * keys))) if rows == queries else 1
    by_rows = _settled(query, key, value, batch, rows < queries)
    for b in _ranges(batch, examples):
        k, v = _taken((key, value), b) if by_rows else (None, None)
        q, k, v = (query, k, v) if by_rows else _taken((query, key, value), b)
        for i in _ranges(queries, rows):
            (q_rows,) = _taken((query,), b, i) if by_rows else (_part(q, (slice(None), slice(None), i)),)
            q_rows = q_rows.unflatten(1, (groups, repeats))
            last = min(keys, i.stop) if causal else keys
            for g in _ranges(groups, group):
                seen = (slice(None), g, slice(last))
                yield Block(b, g, i, last), _part(q_rows, (slice(None), g)), _part(k, seen), _part(v, seen)


def _ranges(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _settled(query: Any, key: Any, value: Any, batch: int, several: bool) -> bool:
    """Run the deferred ones that cannot be taken by examples; tell whether queries are to be taken by rows."""
    waiting = [x for x in (query, key, value) if pending(x)]
    odd = [x for x in waiting if not x.swapped or len(x.node.content) != 2 or x.lead[0] != batch]
    steps = [{node for node in sorted_steps([x.node]) if node.costly} for x in waiting]
    shared = len(waiting) > 1 and bool(set.intersection(*steps))
    by_rows = pending(query) and batch == 1 and several and not odd
    if by_rows and shared:  # one layer made all three: taking them apart would run it again for each
        odd = waiting
    if odd:
        for x in odd:
            run([y for y in odd if y.lead == x.lead])
    return by_rows and not odd


def _taken(xs: Sequence[Any], examples: slice, rows: slice | None = None) -> list[Any]:
    """The parts of some examples, and query rows of one example; deferred ones are computed together."""
    waiting = [x for x in xs if pending(x)]
    parts: dict[int, Any] = {}
    for lead in dict.fromkeys(x.lead for x in waiting):
        alike = [x for x in waiting if x.lead == lead]
        positions = slice(0, lead[1]) if rows is None else rows
        span = range(
            examples.start * lead[1] + positions.start, (examples.stop - 1) * lead[1] + positions.stop
        )
        shape = (examples.stop - examples.start, positions.stop - positions.start)
        for x, rows_of_x in zip(alike, window(alike, span), strict=True):
            primal, tangents = rows_of_x.pair()
            parts[id(x)] = Dual(x.arranged(primal, shape), (x.arranged(t, shape) for t in tangents))
    index = (examples,) if rows is None else (examples, slice(None), rows)
    return [parts[id(x)] if id(x) in parts else _part(x, index) for x in xs]


def _part(x: Any, index: tuple[slice, ...]) -> Any:
    if not isinstance(x, Dual):
        return x[index]
    primal, tangents = x.pair()
    return Dual(primal[index], (t[index] for t in tangents))
