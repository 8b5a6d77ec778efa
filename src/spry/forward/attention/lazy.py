"""Lazy attention, evaluated only for the query rows that are read.

A classifier reads the first or last position of each example. The functions after the last layer's attention are
position-wise and computed for these rows alone (``LazyDual.select_rows``); so are the queries and the attention itself.

Shapes: B batch, H query heads, G key heads, L queries, T keys, c selected queries of each example, D and E head widths.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spry.forward.attention.attend import attend
from spry.forward.dual import Dual, primal
from spry.forward.lazy.dual import LazyDual, is_lazy
from spry.forward.lazy.node import LazyLeaf, materialize_leaves
from spry.forward.lazy.program import select_rows

MIN_SAVING = 4
"""Selected rows are computed alone if they are at most one in so many: else keys might be needed again."""


def can_be_lazy(query: Any, key: Any, value: Any, mask: Any, *, causal: bool) -> bool:
    """Tell whether attention may wait for its reader: if the queries are rows of a program, and the mask is plain.

    Under ``torch.export`` it may not, since which rows are read depends on values.
    """
    if (
        not is_lazy(query)
        or not query.heads_first
        or len(query.node.row_shape) != 2
        or torch.compiler.is_compiling()
    ):
        return False
    return (
        not isinstance(mask, Dual)
        and not (causal and mask is not None)
        and len(key) == len(query) == len(value)
        and query.shape[1] >= key.shape[1] == value.shape[1]
    )


def attend_lazily(
    query: LazyDual, key: Any, value: Any, mask: Tensor | None, *, is_causal: bool, scale: Any
) -> Dual:
    """Compute attention, shape (B, H, L, E), when its result is read.

    ``query`` has the shape (B, H, L, D), ``key`` (B, G, T, D) and ``value`` (B, G, T, E); the last two are dual or
    plain. ``mask`` is True or 0 where a query may attend, and broadcasts to (B, H, L, T). Lazy attention that the
    operands depend on is computed now, so that no chain of waiting layers forms.
    """
    query, key, value = (_frozen(x) for x in (query, key, value))

    def make(rows: Tensor | None) -> Tensor | None:
        if rows is None:
            return _rows(attend(query, key, value, mask, is_causal=is_causal, scale=scale))
        positions = _positions(rows, query)
        if positions is None:
            return None
        few = LazyDual(
            select_rows(query.node, rows), tuple(positions.shape), query.num_directions, query.device, True
        )
        open_to = _mask_rows(mask, positions, key.shape[2], is_causal)
        return _rows(attend(few, key, value, open_to, scale=scale))

    row_shape = (query.shape[1], value.shape[-1])
    node = LazyLeaf(make, row_shape, query.dtype, [primal(x) for x in (key, value, mask) if not is_lazy(x)])
    return LazyDual(node, query.batch_shape, query.num_directions, query.device, True)


def _frozen(x: Any) -> Any:
    """The value as it is now, whatever the model writes in place later."""
    if not is_lazy(x):
        return Dual(*x.pair()) if isinstance(x, Dual) else x
    materialize_leaves([x.node])
    return x.like(x.node)


def _positions(rows: Tensor, query: LazyDual) -> Tensor | None:
    """Positions of selected rows, shape (B, c), if they are few, c of each example, and in the order of examples."""
    batch, queries = query.batch_shape
    if len(rows) * MIN_SAVING > batch * queries or len(rows) % max(1, batch) or not len(rows):
        return None
    rows = rows.view(batch, -1)
    examples = torch.arange(batch, device=rows.device)[:, None]
    return rows % queries if bool((rows // queries == examples).all()) else None


def _mask_rows(mask: Tensor | None, positions: Tensor, keys: int, causal: bool) -> Tensor | None:
    """The rows of the mask at selected queries, shape (B, H or 1, c, T)."""
    if causal:
        return torch.arange(keys, device=positions.device) <= positions[:, None, :, None]
    if mask is None or mask.dim() < 2 or mask.shape[-2] == 1:
        return mask
    mask = mask[(None,) * (4 - mask.dim())].expand(len(positions), *(-1,) * 3)
    return mask.gather(2, positions[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))


def _rows(result: Dual) -> Dual:
    """From (B, H, L, E) to (B L, H, E), the order in memory."""
    value, tangents = result.pair()
    return Dual(value.transpose(1, 2).flatten(0, 1), (t.transpose(1, 2).flatten(0, 1) for t in tangents))
