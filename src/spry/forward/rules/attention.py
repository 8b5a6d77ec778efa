"""Scaled dot-product attention as PyTorch's function takes it: ``spry.forward.attention.attend`` does the work."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.attention.attend import attend, broadcast
from spry.forward.attention.kernel import Block, Drop
from spry.forward.attention.lazy import attend_lazily, can_be_lazy
from spry.forward.registry import rule


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
        return _as_four_dimensional(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    query, key, value = broadcast(query, key, value)
    drop = None if dropout_p == 0 else _torch_drop(query, key, dropout_p)
    if drop is None and can_be_lazy(query, key, value, attn_mask, causal=is_causal):
        return attend_lazily(query, key, value, attn_mask, is_causal=is_causal, scale=scale)
    return attend(query, key, value, attn_mask, is_causal=is_causal, scale=scale, drop=drop)


def _as_four_dimensional(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    dropout_p: float,
    causal: bool,
    scale: float | None,
    grouped: bool,
) -> Any:
    """Fold the leading dimensions into the batch; with grouped queries all but the heads."""
    kept = 3 if grouped else 2
    lead = torch.broadcast_shapes(*(x.shape[:-kept] for x in (query, key, value)))
    shapes = [(*x.shape[-3:-2][3 - kept :], *x.shape[-2:]) for x in (query, key, value)]
    sizes = (*shapes[0][:-1], key.shape[-2])

    def folded(x: Any, shape: tuple[int, ...]) -> Any:
        x = x.expand(*lead, *shape)
        return x.reshape(-1, *(1,) * (3 - kept), *shape)

    mask = None if mask is None else folded(mask, sizes)
    parts = [folded(x, shape) for x, shape in zip((query, key, value), shapes, strict=True)]
    out = _attention(*parts, mask, dropout_p, causal, scale, grouped)
    return out.reshape(*lead, *shapes[0][:-1], value.shape[-1])


def _torch_drop(query: Tensor, key: Tensor, p: float) -> Drop:
    """Masks from PyTorch's generator, one for the value and all derivatives."""
    repeats = query.shape[1] // key.shape[1]

    def drop(block: Block) -> Tensor:
        sizes = [piece.stop - piece.start for piece in (block.examples, block.groups, block.rows)]
        return F.dropout(torch.ones(*sizes[:2], repeats, sizes[2], block.keys, device=query.device), p)

    return drop
