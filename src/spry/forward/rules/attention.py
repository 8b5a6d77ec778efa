"""Scaled dot-product attention as PyTorch's function takes it: ``spry.forward.attention.attend`` does the work."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.attention.attend import attend, broadcast, fold
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
    if any(x.dim() != 4 for x in (query, key, value)):
        operands, shape = fold(query, key, value, attn_mask, enable_gqa)
        return _attention(*operands, dropout_p, is_causal, scale).reshape(shape)
    if dropout_p == 0 and can_be_lazy(query, key, value, attn_mask, causal=is_causal):
        return attend_lazily(query, key, value, attn_mask, is_causal=is_causal, scale=scale)
    query, key, value = broadcast(query, key, value)
    drop = None if dropout_p == 0 else _torch_drop(query, key, dropout_p)
    return attend(query, key, value, attn_mask, is_causal=is_causal, scale=scale, drop=drop)


def _torch_drop(query: Tensor, key: Tensor, p: float) -> Drop:
    """Masks from PyTorch's generator, one for the value and all derivatives."""
    repeats = query.shape[1] // key.shape[1]

    def drop(block: Block) -> Tensor:
        sizes = [piece.stop - piece.start for piece in (block.examples, block.groups, block.rows)]
        return F.dropout(torch.ones(*sizes[:2], repeats, sizes[2], block.keys, device=query.device), p)

    return drop
