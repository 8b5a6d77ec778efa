"""Arithmetic of two arguments with broadcasting: sums, products, quotients, powers and choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spry.forward.dual import Dual, num_tangents, primal
from spry.forward.registry import family, named, rule


def combine(out: Tensor, *terms: tuple[Any, Callable[[Tensor], Tensor]]) -> Dual:
    """Sum the chain rule's terms into the tangents of a result.

    A term is an argument and the linear map of its tangent to the result's; arguments that are not dual add nothing.
    """
    duals = [(x, push) for x, push in terms if isinstance(x, Dual)]
    columns = []
    for k in range(num_tangents(*(x for x, _ in duals))):
        total = None
        for x, push in duals:
            term = push(x.tangents[k])
            total = term if total is None else total + term
        assert total is not None
        columns.append(total.to(out.dtype).expand(out.shape))
    return Dual(out, columns)


@family(named("add __add__ __radd__"))
def _add(func: Any, input: Any, other: Any, *, alpha: Any = 1) -> Dual:
    out = torch.add(primal(input), primal(other), alpha=alpha)
    scaled = (lambda t: t) if alpha == 1 else (lambda t: t * alpha)
    return combine(out, (input, lambda t: t), (other, scaled))


@family(named("sub subtract __sub__"))
def _sub(func: Any, input: Any, other: Any, *, alpha: Any = 1) -> Dual:
    out = torch.sub(primal(input), primal(other), alpha=alpha)
    return combine(out, (input, lambda t: t), (other, lambda t: t * -alpha))


@family(named("rsub __rsub__"))
def _rsub(func: Any, input: Any, other: Any, *, alpha: Any = 1) -> Dual:
    out = torch.rsub(primal(input), primal(other), alpha=alpha)
    return combine(out, (other, lambda t: t), (input, lambda t: t * -alpha))


@family(named("mul multiply __mul__ __rmul__"))
def _mul(func: Any, input: Any, other: Any) -> Dual:
    x, y = primal(input), primal(other)
    out = torch.mul(x, y)
    if not (isinstance(input, Dual) and isinstance(other, Dual)):
        return combine(out, (input, lambda t: t * y), (other, lambda t: x * t))
    pairs = zip(input.tangents, other.tangents, strict=True)
    return Dual(out, [torch.addcmul(t * y, x, u) for t, u in pairs])


@family(named("div divide true_divide __div__ __truediv__"))
def _div(func: Any, input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    x, y = primal(input), primal(other)
    out = torch.div(x, y, rounding_mode=rounding_mode)
    if rounding_mode is not None:  # a staircase: its derivative is zero wherever it has one
        return out
    return combine(out, (input, lambda t: t / y), (other, lambda t: (out / y).neg_() * t))


@rule(Tensor.__rdiv__, Tensor.__rtruediv__)
def _rdiv(input: Any, other: Any) -> Any:
    return torch.div(other, input) if isinstance(other, Tensor) else torch.mul(torch.reciprocal(input), other)


@rule(*named("pow __pow__"))
def _pow(input: Any, exponent: Any) -> Dual:
    x, p = primal(input), primal(exponent)
    out = torch.pow(x, p)

    def base(t: Tensor) -> Tensor:
        if not isinstance(p, Tensor) and p == 2:
            return (t * x).mul_(2)
        if not isinstance(p, Tensor):
            return t * (p * torch.pow(x, p - 1) if p != 0 else 0)
        return t * torch.where(p == 0, 0, p * torch.pow(x, p - 1))  # 0 ** -1 is infinite

    def power(t: Tensor) -> Tensor:
        base = torch.as_tensor(x, dtype=out.dtype, device=out.device)
        flat = (base == 0) & (torch.as_tensor(p).real >= 0)  # where the logarithm is infinite
        return t * torch.where(flat, 0, out * torch.log(base))

    return combine(out, (input, base), (exponent, power))


@rule(*named("__rpow__"))
def _rpow(input: Dual, other: Any) -> Tensor:
    return torch.pow(other, input)


@family(named("maximum minimum fmax fmin"))
def _extreme(func: Callable[..., Tensor], input: Any, other: Any) -> Dual:
    x, y = primal(input), primal(other)
    out = func(x, y)
    # ties: half each, as in autograd
    share = torch.where(x == y, 0.5, (x == out).to(out.dtype)).to(out.dtype)
    return combine(out, (input, lambda t: t * share), (other, lambda t: t * (1 - share)))


@family(named("addcmul"))
def _addcmul(func: Any, input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * tensor1 * tensor2
