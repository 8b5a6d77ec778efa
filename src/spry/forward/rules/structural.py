"""Functions that only move, select or add up entries: the same function moves the value and each derivative.

``f(x + e t) = f(x) + e f(t)``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.dual import Dual, View, has_derivative, num_tangents, plain, primal, window
from spry.forward.registry import family, named, rule

MOVES = (
    named("view reshape view_as reshape_as flatten unflatten ravel squeeze unsqueeze")
    + named("transpose permute movedim moveaxis swapaxes swapdims t adjoint flip roll")
    + named("expand expand_as broadcast_to repeat tile repeat_interleave narrow select unfold")
    + named("index_select gather take take_along_dim masked_select diagonal diag diag_embed")
    + named("tril triu split split_with_sizes chunk tensor_split hsplit vsplit unbind")
    + named("to type_as float double half bfloat16 cpu cuda clone contiguous __getitem__")
    + named("sum mean cumsum neg negative positive trace rot90")
    + named("real imag view_as_real view_as_complex resolve_conj resolve_neg")
    + named("conj conj_physical cfloat cdouble chalf")
    + [getattr(torch.fft, name) for name in torch.fft.__all__ if "freq" not in name]
    + [getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "real", "imag")]
)
"""Functions linear in their first argument, over the real numbers.

The other arguments are sizes, indices, or tensors whose shape or dtype counts.
"""


@family(MOVES)
def _move(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    x = args[0] if args else kwargs.pop("input")
    rest = [plain(arg) for arg in args[1:]]
    kwargs = {name: plain(arg) for name, arg in kwargs.items()}
    if not isinstance(x, Dual):
        return func(x, *rest, **kwargs)
    value, tangents = x.pair()
    out = func(value, *rest, **kwargs)
    if out is value:
        return x

    def moved(t: Tensor) -> Any:
        try:
            return func(t, *rest, **kwargs)
        except (
            RuntimeError
        ):  # a view that the value's memory allows, but not the derivative's, which may be expanded
            if t.stride() == value.stride():
                raise
            return func(torch.empty_like(value).copy_(t), *rest, **kwargs)

    columns = map(moved, tangents)
    if isinstance(out, Tensor):
        if not has_derivative(out):
            return out
        if func.__name__ == "view" and any(isinstance(arg, torch.dtype) for arg in (*rest, *kwargs.values())):
            raise ModelError(
                "'view' with a dtype reads the bits of a number, which have no derivative; use .to(dtype)"
            )
        return _related(x, Dual(out, columns), moved)
    columns = list(columns)
    parts = [Dual(part, (column[i] for column in columns)) for i, part in enumerate(out)]
    views = (lambda t, i=i: moved(t)[i] for i in range(len(parts)))
    return type(out)(map(_related, [x] * len(parts), parts, views))


def _related(x: Dual, out: Dual, view: View) -> Dual:
    if out.primal._is_view():
        x.register_alias(out, view)
    return out


@rule(Tensor.__iter__)
def _iter(x: Dual) -> Any:
    return iter(x.unbind(0))


@family(named("cat concat concatenate stack hstack vstack dstack"))
def _join(func: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
    if not any(isinstance(x, Dual) for x in tensors):
        return func(tensors, *args, **kwargs)
    out = func([primal(x) for x in tensors], *args, **kwargs)
    zeros = [None if isinstance(x, Dual) else out.new_zeros(()).expand(x.shape) for x in tensors]

    def column(k: int) -> Tensor:
        parts = [x.tangents[k] if zero is None else zero for x, zero in zip(tensors, zeros, strict=True)]
        return func(parts, *args, **kwargs).to(out.dtype)

    return Dual(out, (column(k) for k in range(num_tangents(*tensors))))


@rule(*named("where"))
def _where(condition: Any, *choice: Any, **named_choice: Any) -> Any:
    choices = (*choice, *(named_choice[name] for name in sorted(named_choice)))  # input and other, or neither
    if not any(isinstance(x, Dual) for x in choices):
        return torch.where(primal(condition), *choices)
    input, other = choices
    condition = primal(condition)
    out = torch.where(condition, primal(input), primal(other))

    def column(k: int) -> Tensor:
        left, right = (x.tangents[k].to(out.dtype) if isinstance(x, Dual) else 0.0 for x in (input, other))
        return torch.where(condition, left, right).to(out.dtype).expand(out.shape)

    return Dual(out, (column(k) for k in range(num_tangents(input, other))))


@rule(Tensor.where)
def _where_method(self: Any, condition: Any, other: Any) -> Any:
    return _where(condition, self, other)


@rule(*named("masked_fill"))
def _masked_fill(input: Any, mask: Any, value: Any) -> Any:
    mask = primal(mask)
    if isinstance(value, Dual):
        return _where(mask, value.to(input.dtype), input)
    out = torch.masked_fill(input.primal, mask, value)
    return Dual(out, (t.masked_fill(mask, 0) for t in input.tangents))


@rule(F.pad)
def _pad(input: Dual, pad: Any, mode: str = "constant", value: float | None = None) -> Dual:
    out = F.pad(input.primal, pad, mode, value)
    return Dual(out, (F.pad(t, pad, mode, 0 if mode == "constant" else None) for t in input.tangents))


@rule(F.embedding)
def _embedding(
    input: Tensor,
    weight: Dual,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Dual:
    if scale_grad_by_freq:
        raise ModelError(
            "'embedding' with scale_grad_by_freq has a gradient that is no derivative; switch it off"
        )
    out = F.embedding(input, weight.primal, padding_idx, max_norm, norm_type)
    tangents = [F.embedding(input, t) for t in weight.tangents]
    if padding_idx is not None:  # autograd holds this row constant, so do we
        padding = (input == padding_idx % weight.shape[0]).unsqueeze(-1)
        tangents = [t.masked_fill_(padding, 0) for t in tangents]
    return Dual(out, tangents)


@rule(Tensor.as_strided, torch.as_strided)
def _as_strided(input: Dual, size: Any, stride: Any, storage_offset: int | None = None) -> Dual:
    value, tangents = input.pair()
    out = value.as_strided(size, stride, storage_offset)
    strides, offset = value.stride(), 0 if storage_offset is None else storage_offset - value.storage_offset()

    def view(t: Tensor) -> Tensor:
        return window(t, strides, size, stride, offset)

    try:
        return _related(input, Dual(out, map(view, tangents)), view)
    except RuntimeError as error:
        raise ModelError(f"'as_strided' reads memory around a tensor, or one entry twice: {error}") from error
