"""Elementwise functions of one argument: ``f(x + e t) = f(x) + e f'(x) t``.

Their Jacobian is diagonal, hence symmetric: PyTorch's fused backward kernels are forward rules as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spry.forward.dual import Dual
from spry.forward.fallback import fallback
from spry.forward.registry import RULES, named

aten = torch.ops.aten

Push = Callable[..., Tensor]
"""Takes the tangent, the argument, the value and the function's other arguments; returns ``f'(x) t``."""

PUSHES: dict[str, Push] = {
    "gelu": lambda t, x, y, approximate="none": aten.gelu_backward(t, x, approximate=approximate),
    "silu": lambda t, x, y: aten.silu_backward(t, x),
    "mish": lambda t, x, y: aten.mish_backward(t, x),
    "tanh": lambda t, x, y: aten.tanh_backward(t, y),
    "sigmoid": lambda t, x, y: aten.sigmoid_backward(t, y),
    "relu": lambda t, x, y: aten.threshold_backward(t, x, 0),
    "relu6": lambda t, x, y: aten.hardtanh_backward(t, x, 0, 6),
    "hardtanh": lambda t, x, y, min_val=-1.0, max_val=1.0: aten.hardtanh_backward(t, x, min_val, max_val),
    "leaky_relu": lambda t, x, y, negative_slope=0.01: aten.leaky_relu_backward(t, x, negative_slope, False),
    "elu": lambda t, x, y, alpha=1.0: aten.elu_backward(t, alpha, 1, 1, False, x),
    "softplus": lambda t, x, y, beta=1, threshold=20: aten.softplus_backward(t, x, beta, threshold),
    "logsigmoid": lambda t, x, y: torch.sigmoid(-x).mul_(t),
    "exp": lambda t, x, y: t * y,
    "exp2": lambda t, x, y: (t * y).mul_(math.log(2)),
    "expm1": lambda t, x, y: (y + 1).mul_(t),
    "log": lambda t, x, y: t / x,
    "log1p": lambda t, x, y: t / (x + 1),
    "log2": lambda t, x, y: (t / x).div_(math.log(2)),
    "sqrt": lambda t, x, y: (t / y).mul_(0.5),
    "rsqrt": lambda t, x, y: y.pow(3).mul_(t).mul_(-0.5),
    "reciprocal": lambda t, x, y: y.square().mul_(t).neg_(),
    "square": lambda t, x, y: (t * x).mul_(2),
    "abs": lambda t, x, y: x.sgn().mul_(t),
    "sin": lambda t, x, y: x.cos().mul_(t),
    "cos": lambda t, x, y: x.sin().mul_(t).neg_(),
    "erf": lambda t, x, y: x.square().neg_().exp_().mul_(t).mul_(2 / math.sqrt(math.pi)),
}
"""How each function, by its name, carries a tangent; one law for ``torch.f``, ``Tensor.f`` and ``F.f`` alike."""

_ALIASES = {"absolute": "abs", "__abs__": "abs", "expit": "sigmoid"}


def _apply(func: Callable[..., Tensor], push: Push, *args: Any, inplace: bool = False, **kwargs: Any) -> Dual:
    x, *rest = args or (kwargs.pop("input"),)
    value, tangents = x.pair()
    if value.is_complex():  # f' is not symmetric there, and |z| has none
        return fallback(func, (x, *rest), kwargs)
    y = func(value, *rest, **kwargs)
    if len(tangents) == 1:
        return Dual(y, [push(tangents[0], value, y, *rest, **kwargs)])
    factor = push(torch.ones_like(value), value, y, *rest, **kwargs)  # computed once for all directions
    return Dual(y, [t * factor for t in tangents])


def _register() -> None:
    names = {name: name for name in PUSHES} | _ALIASES
    for alias, name in names.items():
        for func in named(alias):
            RULES[func] = partial(_apply, func, PUSHES[name])


_register()


def _clamp(func: Callable[..., Tensor], input: Any, *bounds: Any, **named_bounds: Any) -> Dual:
    if any(isinstance(bound, Dual) for bound in (*bounds, *named_bounds.values())):
        return fallback(func, (input, *bounds), named_bounds)
    value, tangents = input.pair()
    y = func(value, *bounds, **named_bounds)
    inside = y == value  # at a bound, too, as in autograd
    return Dual(y, [t * inside for t in tangents])


RULES.update({func: partial(_clamp, func) for func in named("clamp clip clamp_min clamp_max")})
