"""Functions whose result does not move with the value: comparisons, indices; and fresh tensors made like a dual one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.diagnostics import name_of
from spry.forward.dual import Dual, has_derivative, num_tangents, plain, primal
from spry.forward.registry import family, named, rule

CONSTANTS = (
    named("rand_like randn_like randint_like argmax argmin argsort nonzero")
    + named("eq ne lt le gt ge equal allclose isclose isnan isinf isfinite signbit")
    + named("logical_not logical_and logical_or any all sign floor ceil round trunc")
    + named("count_nonzero searchsorted bucketize long int bool byte short char")
    + named("__bool__ __contains__ is_nonzero is_same_size isin histc")
)
"""Functions that read the value and whose result has no derivative, or zero wherever it has one."""


@family(CONSTANTS)
def _constant(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return func(*map(plain, args), **{name: plain(arg) for name, arg in kwargs.items()})


@family(named("zeros_like ones_like empty_like full_like new_zeros new_ones new_empty new_full"))
def _fresh(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # such tensors are often made to be written into: a dual one can take a derivative
    if any(isinstance(arg, Dual) for arg in (*args[1:], *kwargs.values())):
        raise ModelError(
            f"{name_of(func)!r} would turn a value that depends on the trained weights into a plain number; "
            f"use .expand(...)"
        )
    out = _constant(func, *args, **kwargs)
    if not has_derivative(out):
        return out
    k = num_tangents(*args, *kwargs.values())
    return Dual(out, [out.new_zeros(()).expand(out.shape)] * k)


@rule(Tensor.new_tensor)
def _new_tensor(self: Any, data: Any, **kwargs: Any) -> Any:
    # a copy that stops the derivative, as in autograd
    data = data.detach() if isinstance(data, Dual) else data
    return primal(self).new_tensor(data, **kwargs)
