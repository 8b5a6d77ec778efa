"""Views of lazy duals: rows rearranged or selected, and each row reshaped, sliced, expanded or concatenated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spry.forward.lazy.dual import LazyDual, append_op, is_lazy
from spry.forward.lazy.node import Node
from spry.forward.registry import RULES, LazyRule, lazy_rule, named


def reshape_rows(x: Tensor, row_shape: tuple[int, ...]) -> Tensor:
    return x.reshape(x.shape[0], *row_shape)


def expand_rows(x: Tensor, row_shape: tuple[int, ...]) -> Tensor:
    return x.expand(x.shape[0], *row_shape)


def concat_rows(*parts: Tensor) -> Tensor:
    """Concatenate rows along their last dimension."""
    return torch.cat(parts, -1)


RULES.update({reshape_rows: reshape_rows, expand_rows: expand_rows, concat_rows: concat_rows})


def _step(x: LazyDual, func: Callable[..., Any], *args: Any, row_shape: tuple[int, ...]) -> LazyDual:
    return _view(x, x.like(Node(func, (x.node, *args), {}, row_shape, x.dtype)))


def _view(x: LazyDual, view: LazyDual) -> LazyDual:
    x.register_alias(view)
    return view


@lazy_rule(*named("view reshape flatten unflatten"))
def _reshape(func: LazyRule, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not is_lazy(x) or any(isinstance(arg, torch.dtype) for arg in args):
        return NotImplemented
    shape = tuple(func(torch.empty(x.shape, device="meta"), *args, **kwargs).shape)
    row_shape, batch_shape = x.node.row_shape, x.batch_shape
    if x.heads_first:
        if len(shape) < 3 or (shape[0], *shape[-2:]) != (batch_shape[0], batch_shape[1], row_shape[-1]):
            return NotImplemented
        new = (*shape[1:-2], row_shape[-1])
        return _step(x, reshape_rows, new, row_shape=new)
    if len(shape) > len(row_shape) and shape[len(shape) - len(row_shape) :] == row_shape:
        return _view(x, LazyDual(x.node, shape[: len(shape) - len(row_shape)], x.num_directions, x.device))
    if len(shape) > len(batch_shape) and shape[: len(batch_shape)] == batch_shape:
        return _step(x, reshape_rows, shape[len(batch_shape) :], row_shape=shape[len(batch_shape) :])
    return NotImplemented


@lazy_rule(*named("contiguous clone"))
def _same(func: LazyRule, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not is_lazy(x) or x.heads_first:
        return NotImplemented
    return x if func.__name__ == "contiguous" else x.like(x.node)


@lazy_rule(*named("transpose swapaxes swapdims"))
def _transpose(func: LazyRule, x: Any, *dims: Any, **kwargs: Any) -> Any:
    if not is_lazy(x) or kwargs or len(x.batch_shape) != 2 or x.dim() != 4 or {d % 4 for d in dims} != {1, 2}:
        return NotImplemented
    return _view(x, LazyDual(x.node, x.batch_shape, x.num_directions, x.device, not x.heads_first))


@lazy_rule(Tensor.permute)
def _permute(func: LazyRule, x: Any, *dims: Any) -> Any:
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return _transpose(func, x, 1, 2) if order == (0, 2, 1, 3) else NotImplemented


@lazy_rule(*named("expand"))
def _expand(func: LazyRule, x: Any, *sizes: Any, **kwargs: Any) -> Any:
    if not is_lazy(x) or kwargs or len(sizes) != x.dim():
        return NotImplemented
    shape = tuple(old if size == -1 else size for size, old in zip(sizes, x.shape, strict=True))
    batch_shape, row_shape = _roles(x, shape)
    if batch_shape != x.batch_shape:
        return NotImplemented
    return _step(x, expand_rows, row_shape, row_shape=row_shape)


def _roles(x: LazyDual, per_dimension: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Divide a tuple of one item per dimension into the batch shape's items and the row shape's."""
    if not x.heads_first:
        return per_dimension[: len(x.batch_shape)], per_dimension[len(x.batch_shape) :]
    return (per_dimension[0], per_dimension[-2]), (*per_dimension[1:-2], per_dimension[-1])


@lazy_rule(Tensor.__getitem__)
def _getitem(func: LazyRule, x: Any, index: Any) -> Any:
    parts = _explicit(index, x.dim()) if is_lazy(x) else None
    if parts is None:
        return NotImplemented
    if any(part is None for part in parts):
        return _unsqueeze(x, parts)
    batch_shape, row_shape = _roles(x, tuple(parts))
    if all(map(_is_whole, batch_shape)) and all(type(part) is slice for part in row_shape):
        sizes = tuple(len(range(n)[part]) for n, part in zip(x.node.row_shape, row_shape, strict=True))
        return _step(x, Tensor.__getitem__, (slice(None), *row_shape), row_shape=sizes)
    if all(map(_is_whole, row_shape)) and not x.heads_first:
        every = torch.arange(x.num_rows, device=x.device).view(x.batch_shape)
        return _view(x, x.select_rows(every[batch_shape]))
    return NotImplemented


def _is_whole(part: Any) -> bool:
    return type(part) is slice and part == slice(None)


def _explicit(index: Any, rank: int) -> list[Any] | None:
    """One item of an index for each dimension, besides Nones; None for indices that are not handled."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is Ellipsis or type(part) in {int, slice, Tensor} for part in parts):
        return None
    if any(type(part) is Tensor and part.dtype == torch.bool and part.dim() != 1 for part in parts):
        return None
    missing = rank - sum(part is not None and part is not Ellipsis for part in parts)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is None:
        return parts + [slice(None)] * missing
    return parts[:at] + [slice(None)] * missing + parts[at + 1 :]


def _unsqueeze(x: LazyDual, parts: list[Any]) -> Any:
    """``x[:, :, None]``: a new dimension of size one in each row, as when heads are repeated for grouped queries."""
    at = next(i for i, part in enumerate(parts) if part is None)
    others = parts[:at] + parts[at + 1 :]
    if not x.heads_first or not all(map(_is_whole, others)) or not 1 <= at <= len(others) - 2:
        return NotImplemented
    row_shape = (*x.node.row_shape[: at - 1], 1, *x.node.row_shape[at - 1 :])
    return _step(x, reshape_rows, row_shape, row_shape=row_shape)


@lazy_rule(*named("split chunk"))
def _split(func: LazyRule, x: Any, size: Any = None, dim: int = 0, **kwargs: Any) -> Any:
    if not is_lazy(x) or kwargs or dim not in {-1, x.dim() - 1}:
        return NotImplemented
    widths = [part.shape[0] for part in func(torch.empty(x.shape[-1], device="meta"), size, 0)]
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    parts = (x[..., end - width : end] for width, end in zip(widths, ends, strict=True))
    return tuple(parts)


@lazy_rule(*named("cat concat concatenate"))
def _cat(func: LazyRule, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    first = tensors[0]
    if kwargs or not all(is_lazy(x) for x in tensors) or dim not in {-1, first.dim() - 1}:
        return NotImplemented
    if len({x.shape[:-1] for x in tensors}) > 1:
        return NotImplemented
    return append_op(
        concat_rows, tuple(tensors), {}, range(len(tensors)), sum(x.shape[-1] for x in tensors), first.dtype
    )
