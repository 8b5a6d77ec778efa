"""Lazy rules of functions that compute each row of a result from the same rows of their arguments."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.autograd import any_requires_grad
from spry.forward.chunking import MIN_LAZY_BYTES, by_device
from spry.forward.dual import Dual, num_tangents
from spry.forward.lazy.dual import append_op, is_lazy
from spry.forward.packed import Packed, packed_linear
from spry.forward.registry import RULES, LazyRule, lazy_rule, named

WIDENING = 8
"""A layer that widens its input by up to so much continues a program. Others have it computed first: a narrower one
because its siblings (query, key, value) will read the same input, a wider one because it would cut the chunks small.
An exact head's layers always continue: they have no siblings, and most of their rows may never be read."""


def _begins(x: Any, width: int | None = None) -> bool:
    """Whether a result of some width, by default that of its argument, continues a program or may start one."""
    if is_lazy(x):
        return True
    if not isinstance(x, Dual) or x.dim() < 2 or not x.is_contiguous() or x.is_complex():
        return False
    width = x.shape[-1] if width is None else width
    if x.dim() > 2 and not num_tangents(x):
        return True  # an exact head reads one position of each text: leaving out the others pays at any size
    nbytes = math.prod(x.shape[:-1]) * width * x.dtype.itemsize * (1 + num_tangents(x))
    return nbytes >= max(1, by_device(MIN_LAZY_BYTES, x.device))


@lazy_rule(*named("gelu silu relu tanh sigmoid square neg abs exp softplus mish rsqrt sqrt"))
def _map(func: LazyRule, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not _begins(x):
        return NotImplemented
    return append_op(func, (x, *args), kwargs, (0,), x.shape[-1], x.dtype)


@lazy_rule(*named("float double half bfloat16 type_as to"))
def _cast(func: LazyRule, x: Any, *args: Any, **kwargs: Any) -> Any:
    named_dtype = None if func.__name__ in {"to", "type_as"} else getattr(torch, func.__name__)
    dtype = named_dtype or (args[0] if len(args) == 1 and not kwargs else None)
    if isinstance(dtype, Tensor) and dtype.device == x.device:
        dtype = dtype.dtype
    if dtype == x.dtype:
        return x
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or not _begins(x):
        return NotImplemented
    return append_op(Tensor.to, (x, dtype), {}, (0,), x.shape[-1], dtype)


@lazy_rule(*named("add sub mul multiply div true_divide pow rsub __pow__ __rsub__"))
def _zip(func: LazyRule, x: Any, y: Any = None, **kwargs: Any) -> Any:
    pair = (x, y)
    power = "pow" in func.__name__ and not isinstance(y, Tensor)
    if kwargs or not (any(is_lazy(z) for z in pair) or (power and _begins(x))):
        return NotImplemented
    if any(isinstance(z, complex) or (isinstance(z, Tensor) and z.is_complex()) for z in pair):
        return NotImplemented
    # numbers do not count for shape or type
    arrays = [z for z in pair if isinstance(z, Tensor) and z.dim() > 0]
    widths = {z.shape[-1] for z in arrays} - {1}
    if len(widths) > 1:
        return NotImplemented
    dtype = functools.reduce(torch.promote_types, (z.dtype for z in arrays))
    return append_op(func, pair, {}, (0, 1), max(widths, default=1), dtype)


@lazy_rule(F.linear)
def _linear(func: LazyRule, x: Any, weight: Any, bias: Any = None) -> Any:
    trained = isinstance(weight, Dual) and not num_tangents(weight)
    if trained and not isinstance(x, Dual) and weight.shape[0] > x.shape[-1]:
        x = Dual(x, ())  # a vocabulary's logits, of a head that is trained by itself: more than its features
    return _affine(func, (x, weight, bias), 0, weight.shape[0])


@lazy_rule(packed_linear)
def _packed_linear(func: LazyRule, x: Any, weight: Packed, bias: Any = None) -> Any:
    return _affine(func, (x, weight, bias), 0, weight.shape[0])


@lazy_rule(torch.addmm)
def _addmm(func: LazyRule, bias: Any, x: Any = None, weight: Any = None, **kwargs: Any) -> Any:
    return NotImplemented if kwargs else _affine(func, (bias, x, weight), 1, weight.shape[1])


@lazy_rule(*named("matmul __matmul__ mm"))
def _matmul(func: LazyRule, x: Any, weight: Any = None, **kwargs: Any) -> Any:
    if kwargs or weight.dim() != 2:
        return NotImplemented
    return _affine(func, (x, weight), 0, weight.shape[1])


def _affine(func: LazyRule, args: tuple[Any, ...], at: int, width: int) -> Any:
    x = args[at]
    if (
        is_lazy(x)
        and x.node.has_matmul
        and x.node.size == x.node.input_width
        and not 1 < width / x.shape[-1] <= WIDENING
        and not any_requires_grad(args)
    ):
        x.pair()
    if not _begins(x, width):
        return NotImplemented
    return append_op(func, args, {}, (at,), width, x.dtype, is_matmul=True)


@lazy_rule(F.layer_norm, torch.layer_norm, *named("rms_norm"))
def _norm(func: LazyRule, x: Any, normalized_shape: Any, *args: Any, **kwargs: Any) -> Any:
    if tuple(normalized_shape) != tuple(x.shape[-1:]) or not _begins(x):
        return NotImplemented
    return append_op(func, (x, normalized_shape, *args), kwargs, (0,), x.shape[-1], x.dtype)


@lazy_rule(F.dropout, torch.dropout)
def _dropout(func: LazyRule, x: Any, *args: Any, **kwargs: Any) -> Any:
    return RULES[func](x, *args, **kwargs)  # it is made of functions that come here themselves


@lazy_rule(*named("softmax log_softmax"))
def _softmax(func: LazyRule, x: Any, dim: Any = None, *args: Any, dtype: Any = None, **kwargs: Any) -> Any:
    if args or dim not in {-1, x.dim() - 1} or not _begins(x):
        return NotImplemented
    return append_op(func, (x, -1), {"dtype": dtype}, (0,), x.shape[-1], dtype or x.dtype)


@lazy_rule(*named("mean sum"))
def _reduce(func: LazyRule, x: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    if kwargs or not keepdim or dim not in {-1, x.dim() - 1} or not is_lazy(x):
        return NotImplemented
    return append_op(func, (x, -1, True), {}, (0,), 1, x.dtype)
