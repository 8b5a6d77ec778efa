"""Functions linear in each of their tensors: ``f(x + e t, y + e u) = f(x, y) + e (f(t, y) + f(x, u))``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.custom_ops import register_custom_op
from spry.forward.dual import Dual, num_tangents, primal
from spry.forward.fallback import fallback
from spry.forward.registry import family, named


def product_rule(func: Callable[..., Tensor], *factors: Any) -> Dual:
    """Differentiate a function that is linear in each factor, at least one of them dual.

    A derivative is the sum over dual factors of ``func`` with that factor's tangent in its place.
    """
    values = [primal(x) for x in factors]
    moving = [i for i, x in enumerate(factors) if isinstance(x, Dual)]

    def column(k: int) -> Tensor:
        total = None
        for i in moving:
            term = func(*values[:i], factors[i].tangents[k], *values[i + 1 :])
            total = term if total is None else total.add_(term)
        assert total is not None
        return total

    return Dual(func(*values), [column(k) for k in range(num_tangents(*factors))])


@family(named("matmul __matmul__ mm bmm mv dot vdot inner outer ger kron"))
def _product(func: Callable[..., Tensor], *args: Any, **named_args: Any) -> Any:
    # input, then mat2, other, tensor or vec
    factors = (*args, *(named_args[name] for name in sorted(named_args)))
    if not all(isinstance(x, Tensor) for x in factors):  # out_dtype
        return fallback(func, args, named_args)
    return product_rule(func, *factors)


@family(named("__rmatmul__"))
def _rmatmul(func: Any, input: Any, other: Any) -> Any:
    return torch.matmul(other, input)


@family([torch.einsum])
def _einsum(func: Any, equation: str, *operands: Any) -> Dual:
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return product_rule(lambda *xs: torch.einsum(equation, *xs), *operands)


@family(named("grouped_mm _grouped_mm"))
def _grouped_mm(
    func: Callable[..., Tensor],
    mat_a: Any,
    mat_b: Any,
    offs: Any = None,
    bias: Any = None,
    out_dtype: Any = None,
) -> Any:
    """The experts' products of a mixture: linear in the rows and in the experts' weights."""

    def product(a: Tensor, b: Tensor) -> Tensor:
        # the kernel is particular about memory: as the values lie, or in rows
        a, b = _laid_like(a, primal(mat_a)), _laid_like(b, primal(mat_b))
        return func(a, b, offs=offs, out_dtype=out_dtype)

    out = product_rule(product, mat_a, mat_b)
    return out if bias is None else out + bias


def _laid_like(x: Tensor, other: Tensor) -> Tensor:
    return x if x.stride() == other.stride() else torch.empty_like(other).copy_(x)


@register_custom_op("transformers::grouped_mm_fallback")
def _grouped_mm_fallback(func: Callable[..., Tensor], input: Any, weight: Any, offs: Tensor) -> Dual:
    return product_rule(lambda a, b: func(a, b, offs), input, weight)


_PRODUCTS = {"addmm": torch.mm, "baddbmm": torch.bmm, "addmv": torch.mv, "addr": torch.outer}


@family(named(" ".join(_PRODUCTS)))
def _add_product(
    func: Callable[..., Tensor], input: Any, *args: Any, beta: Any = 1, alpha: Any = 1, **named_args: Any
) -> Any:
    factors = (*args, *(named_args[name] for name in sorted(named_args)))  # mat1 and mat2, mat and vec, ...
    product: Any = _PRODUCTS[func.__name__](*factors)
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # the input counts for its shape only
        return product
    return product + (input if beta == 1 else input * beta)


@family([F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d])
def _convolution(
    func: Callable[..., Tensor], input: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any
) -> Any:
    product = (
        product_rule(lambda x, w: func(x, w, None, *args, **kwargs), input, weight)
        if _any(input, weight)
        else func(input, weight, None, *args, **kwargs)
    )
    return product if bias is None else product + bias.view(-1, *(1 for _ in range(weight.dim() - 2)))


def _any(*values: Any) -> bool:
    return any(isinstance(value, Dual) for value in values)
