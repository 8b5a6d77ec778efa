"""Attention of dual numbers, block by block.

``kernel`` has the mathematics of one block, ``blocks`` the order of the blocks.

Shapes: B batch, G key heads (groups), R query heads that share one, L queries, T keys, D and E head widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.attention.blocks import blocks, slice_dual
from spry.forward.attention.kernel import Block, Drop, attend_block
from spry.forward.dual import Dual, num_tangents
from spry.forward.lazy.dual import LazyDual


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
    """Compute attention of dual numbers, block by block: shape (B, G R, L, E), in the memory order of (B, L, G R, E).

    ``query`` has the shape (B, G R, L, D), ``key`` (B, G, T, D) and ``value`` (B, G, T, E), each dual or plain.
    ``mask`` is True or 0 where a query may attend, and broadcasts to (B, G R, L, T). With ``is_causal`` query i attends
    to the keys up to i only. Scores are multiplied by ``scale``, ``D ** -0.5`` by default, and weights by ``drop``.
    """
    query, key, value = broadcast(query, key, value)
    groups, factor = key.shape[1], query.shape[-1] ** -0.5 if scale is None else scale
    mask = None if mask is None else _grouped(mask, groups, (*query.shape[:3], key.shape[2]))
    sizes = (len(query), query.shape[2], groups, query.shape[1] // groups, value.shape[-1])
    count = 1 + _directions(query, key, value, mask)

    def made() -> list[Tensor]:
        return [torch.empty(sizes, dtype=query.dtype, device=query.device) for _ in range(count)]

    results: list[Tensor] = []  # made when there is something to write: keys and values take as much before
    for block, q, k, v in blocks(query, key, value, is_causal=is_causal):
        open_to = None if mask is None else slice_dual(mask, _mask_index(mask, block))
        kept = None if drop is None else drop(block)
        found = attend_block(q, k, v, open_to, block.rows.start if is_causal else None, factor, kept)
        results = results or made()
        _write(found, block, results)
        del q, k, v, found  # else they would wait beside the next block's
    out, *tangents = (result.flatten(2, 3).transpose(1, 2) for result in results or made())
    return Dual(out, tangents)


def _write(found: Sequence[Tensor], block: Block, results: Sequence[Tensor]) -> None:
    for result, piece in zip(results, found, strict=True):
        result[block.examples, block.rows, block.groups] = piece.permute(0, 3, 1, 2, 4)


def fold(
    query: Any, key: Any, value: Any, mask: Any, enable_gqa: bool
) -> tuple[tuple[Any, Any, Any, Any], tuple[int, ...]]:
    """Fold all leading dimensions into the batch, with one head; give the operands and the shape of the result."""
    if enable_gqa and query.dim() > 2:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    q, k, v = (x.expand(*lead, *x.shape[-2:]).reshape(-1, 1, *x.shape[-2:]) for x in (query, key, value))
    sizes = (query.shape[-2], key.shape[-2])
    mask = None if mask is None else mask.expand(*lead, *sizes).reshape(-1, 1, *sizes)
    return (q, k, v, mask), (*lead, sizes[0], value.shape[-1])


def broadcast(query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """Give query, key and value one batch, and key and value one number of heads, as PyTorch does."""
    batches, heads = zip(*(x.shape[:2] for x in (query, key, value)), strict=True)
    if len(set(batches)) > 1:
        batch = torch.broadcast_shapes(*((size,) for size in batches))[0]
        query, key, value = (x.expand(batch, -1, -1, -1) for x in (query, key, value))
    if heads[1] != heads[2]:
        key, value = (x.repeat_interleave(max(heads) // x.shape[1], 1) for x in (key, value))
    if heads[0] == 1 < key.shape[1]:
        query = query.expand(-1, key.shape[1], -1, -1)
    return query, key, value


def _grouped(mask: Any, groups: int, scores: tuple[int, ...]) -> Any:
    """Shape (B, G, R, L, T), ones where the mask broadcasts."""
    mask = mask[(None,) * (4 - mask.dim())]
    if any(size not in {1, whole} for size, whole in zip(mask.shape, scores, strict=True)):
        raise ModelError(
            f"an attention mask of shape {tuple(mask.shape)} does not fit scores of shape {scores}"
        )
    return mask.unflatten(1, (groups, -1)) if mask.shape[1] > 1 else mask.unsqueeze(2)


def _mask_index(mask: Tensor, block: Block) -> tuple[slice, ...]:
    whole = slice(None)
    ranges = (block.examples, block.groups, whole, block.rows, slice(block.keys))
    return tuple(piece if size > 1 else whole for piece, size in zip(ranges, mask.shape, strict=True))


def _directions(*values: Any) -> int:
    return next(
        x.num_directions if isinstance(x, LazyDual) else num_tangents(x)
        for x in values
        if isinstance(x, Dual)
    )
