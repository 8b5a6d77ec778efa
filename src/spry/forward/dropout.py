"""Dropout from a key: the same key gives the same masks in every kind of pass."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.forward.attention.attend import attend, broadcast, fold
from spry.forward.attention.kernel import Block
from spry.forward.autograd import any_requires_grad, with_autograd
from spry.forward.dual import Dual

_UNKEYED = frozenset({F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout})

_TILE = 64
"""Query rows whose attention masks are drawn together; a unit that does not depend on how attention is blocked."""


def keep(key: Key, shape: tuple[int, ...], p: float, device: torch.device) -> Tensor:
    """Draw which entries stay: a boolean tensor, true with probability ``1 - p``, with p rounded to 1/65536."""
    bits = key.generator("dropout").integers(0, 1 << 16, size=shape, dtype=np.uint16)
    return torch.from_numpy(np.asarray(bits >= round(p * (1 << 16)))).to(device)


class Masks(TorchFunctionMode):
    """Answers dropout with masks from a key, in the order of the calls: call number i draws from ``key.fold(i)``.

    ``count`` calls went before.
    """

    def __init__(self, key: Key, count: int = 0) -> None:
        super().__init__()
        self.key = key
        self.count = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in {F.dropout, torch.dropout}:
            return self._dropout(*args, **kwargs)
        if func in _UNKEYED:
            raise ModelError(
                f"{func.__name__} cannot draw its masks from a key; use torch.nn.Dropout, or turn dropout off"
            )
        if func is F.scaled_dot_product_attention and _dropout_p(*args, **kwargs) > 0:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _next(self) -> Key:
        self.count += 1
        return self.key.fold(self.count - 1)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return input
        mask = keep(self._next(), tuple(input.shape), p, input.device)
        scale = 1 / (1 - p) if p < 1 else 0.0
        return input.mul_(mask).mul_(scale) if inplace else input * mask * scale

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if any(x.dim() != 4 for x in (query, key, value)):
            operands, shape = fold(query, key, value, attn_mask, enable_gqa)
            q, k, v, mask = operands
            return self._attention(q, k, v, mask, dropout_p, is_causal, scale).reshape(shape)
        query, key, value = broadcast(query, key, value)
        tiles = Tiles(self._next(), query, key, dropout_p)
        operands = (query, key, value, attn_mask)
        plain = partial(_attention_with, tiles, is_causal=is_causal, scale=scale)
        if not any(isinstance(x, Dual) for x in operands):
            return plain(*operands)
        rule = partial(attend, is_causal=is_causal, scale=scale, drop=tiles)
        return with_autograd(plain, rule, operands, {}) if any_requires_grad(operands) else rule(*operands)


@contextmanager
def dropout(key: Key) -> Generator[Masks]:
    """Let dropout draw its masks from a key while the context is open, in this thread.

    ``F.dropout`` and the dropout of ``F.scaled_dot_product_attention`` obey, on plain tensors, under autograd and on
    dual numbers alike: equal keys give equal masks as long as the calls come in the same order.
    """
    with Masks(key) as masks:
        token = _masks.set(masks)
        try:
            yield masks
        finally:
            _masks.reset(token)


def current_masks() -> Masks | None:
    """Where dropout draws its masks from in this thread; None outside ``dropout``."""
    return _masks.get()


_masks: ContextVar[Masks | None] = ContextVar("spry_masks", default=None)


class Tiles:
    """Dropout masks of attention weights, drawn for one example and a few query rows at a time.

    The queries have the shape (B, H, L, D), the keys (B, G, T, D).
    """

    def __init__(self, key: Key, query: Tensor, keys: Tensor, p: float) -> None:
        self.key, self.p, self.device = key, p, query.device
        self.heads, self.queries, self.keys = query.shape[1], query.shape[2], keys.shape[2]
        self.groups = keys.shape[1]
        self._last: tuple[tuple[int, int], Tensor] | None = None

    def __call__(self, block: Block) -> Tensor:
        """Give the masks of a block, divided by the chance to be kept."""
        examples = range(block.examples.start, block.examples.stop)
        masks = torch.stack([self._rows(b, block.rows.start, block.rows.stop) for b in examples])
        grouped = masks.unflatten(1, (self.groups, -1))[:, block.groups, ..., : block.keys]
        return grouped.to(torch.float32).mul_(1 / (1 - self.p) if self.p < 1 else 0.0)

    def _rows(self, example: int, start: int, stop: int) -> Tensor:
        first, last = start // _TILE, (stop - 1) // _TILE
        rows = torch.cat([self._tile(example, tile) for tile in range(first, last + 1)], dim=1)
        return rows[:, start - first * _TILE : stop - first * _TILE]

    def _tile(self, example: int, tile: int) -> Tensor:
        if self._last is None or self._last[0] != (example, tile):
            rows = min(_TILE, self.queries - tile * _TILE)
            mask = keep(self.key.fold(example, tile), (self.heads, rows, self.keys), self.p, self.device)
            self._last = ((example, tile), mask)
        return self._last[1]


def _dropout_p(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, *_: Any, **__: Any
) -> float:
    return dropout_p


def _attention_with(
    tiles: Tiles, query: Tensor, key: Tensor, value: Tensor, mask: Any, is_causal: bool, scale: float | None
) -> Tensor:
    """Attention with given dropout masks, all scores at once, differentiable by autograd."""
    batch, heads, queries, width = query.shape
    groups, keys = key.shape[1:3]
    key, value = (x.repeat_interleave(heads // groups, 1) for x in (key, value))
    scores = query @ key.transpose(-1, -2) * (width**-0.5 if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(scores.new_ones(queries, keys, dtype=torch.bool).triu(1), -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    dead = (scores == -torch.inf).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(dead, 0), -1).masked_fill(dead, 0)
    drop = tiles(Block(slice(0, batch), slice(0, groups), slice(0, queries), keys)).flatten(1, 2)
    return (weights * drop.to(weights.dtype)) @ value
