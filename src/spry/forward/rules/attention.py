"""Scaled dot-product attention: scores exist for a few query rows, heads and examples at a time.

``spry.forward.scores`` has the mathematics of one block, ``spry.forward.blocks`` the order in which they come.

Shapes: B batch, G key heads (groups), R query heads that share one, L queries, T keys, D and E head widths.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.blocks import blocks, part
from spry.forward.deferred import Deferred
from spry.forward.dual import Dual, order
from spry.forward.registry import rule
from spry.forward.scores import Block, Drop, attend_block


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
        sizes = [piece.stop - piece.start for piece in (block.examples, block.groups, block.rows)]
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
    groups = key.shape[1]
    factor = width**-0.5 if scale is None else scale
    mask = None if mask is None else _grouped(mask, groups)
    sizes = (batch, queries, groups, heads // groups, value.shape[-1])
    count = 1 + _directions(query, key, value, mask)
    results = [torch.empty(sizes, dtype=query.dtype, device=query.device) for _ in range(count)]
    for block, q, k, v in blocks(query, key, value, is_causal=is_causal):
        open_to = None if mask is None else part(mask, _mask_index(mask, block))
        kept = None if drop is None else drop(block)
        found = attend_block(q, k, v, open_to, block.rows.start if is_causal else None, factor, kept)
        for result, piece in zip(results, found, strict=True):
            result[block.examples, block.rows, block.groups] = piece.permute(0, 3, 1, 2, 4)
    out, *tangents = (result.flatten(2, 3).transpose(1, 2) for result in results)
    return Dual(out, tangents)


def _grouped(mask: Any, groups: int) -> Any:
    """Shape (B, G, R, L, T), ones where the mask broadcasts."""
    mask = mask[(None,) * (4 - mask.dim())]
    return mask.unflatten(1, (groups, -1)) if mask.shape[1] > 1 else mask.unsqueeze(2)


def _mask_index(mask: Tensor, block: Block) -> tuple[slice, ...]:
    whole = slice(None)
    ranges = (block.examples, block.groups, whole, block.rows, slice(block.keys))
    return tuple(piece if size > 1 else whole for piece, size in zip(ranges, mask.shape, strict=True))


def _directions(*values: Any) -> int:
    return next(x.directions if isinstance(x, Deferred) else order(x) for x in values if isinstance(x, Dual))
