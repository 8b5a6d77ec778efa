"""Elementwise functions of one argument: ``f(x + e t) = f(x) + e f'(x) t``, with ``f'(x)`` computed once for all K."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual
from spry.forward.registry import RULES, named

Derivative = Callable[..., Tensor]
"""Takes the argument, the value and the function's other arguments; returns ``f'(x)`` in a tensor of its own."""


def _gelu(x: Tensor, y: Tensor, approximate: str = "none") -> Tensor:
    """Φ(x) + x φ(x), or the derivative of its tanh approximation."""
    if approximate == "none":
        density = torch.exp(x.square().mul_(-0.5)).mul_(x).mul_(1 / math.sqrt(2 * math.pi))
        return torch.special.ndtr(x).add_(density)
    c = math.sqrt(2 / math.pi)
    square = x.square()
    th = torch.tanh((square * 0.044715).add_(1).mul_(x).mul_(c))
    inner = square.mul_(3 * 0.044715).add_(1).mul_(x).mul_(0.5 * c)
    return inner.mul_(1 - th.square()).add_(th.add_(1).mul_(0.5))


def _silu(x: Tensor, y: Tensor) -> Tensor:
    """σ(x) (1 - y) + y."""
    return torch.sigmoid(x).mul_(1 - y).add_(y)


def _softplus(x: Tensor, y: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    return torch.sigmoid(x * beta).masked_fill_(x * beta > threshold, 1)


def _mish(x: Tensor, y: Tensor) -> Tensor:
    th = torch.tanh(F.softplus(x))
    return torch.sigmoid(x).mul_(x).mul_(1 - th.square()).add_(th)


def _clamp(x: Tensor, y: Tensor, min: Any = None, max: Any = None) -> Tensor:
    inside = torch.ones_like(x, dtype=torch.bool)
    inside = inside if min is None else inside & (x >= min)
    inside = inside if max is None else inside & (x <= max)
    return inside.to(x.dtype)


def _hardtanh(x: Tensor, y: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return ((x > min_val) & (x < max_val)).to(x.dtype)


DERIVATIVES: dict[str, Derivative] = {
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "mish": _mish,
    "clamp": _clamp,
    "hardtanh": _hardtanh,
    "relu6": lambda x, y: ((x > 0) & (x < 6)).to(x.dtype),
    "relu": lambda x, y: (x > 0).to(x.dtype),
    "leaky_relu": lambda x, y, negative_slope=0.01: torch.where(x > 0, 1.0, negative_slope).to(x.dtype),
    "elu": lambda x, y, alpha=1.0: torch.where(x > 0, 1.0, y + alpha).to(x.dtype),
    "logsigmoid": lambda x, y: torch.sigmoid(-x),
    "tanh": lambda x, y: 1 - y.square(),
    "sigmoid": lambda x, y: (1 - y).mul_(y),
    "exp": lambda x, y: y.clone(),
    "exp2": lambda x, y: y * math.log(2),
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: x.reciprocal(),
    "log1p": lambda x, y: (x + 1).reciprocal_(),
    "log2": lambda x, y: (x * math.log(2)).reciprocal_(),
    "sqrt": lambda x, y: (2 * y).reciprocal_(),
    "rsqrt": lambda x, y: y.pow(3).mul_(-0.5),
    "reciprocal": lambda x, y: y.square().neg_(),
    "square": lambda x, y: 2 * x,
    "abs": lambda x, y: x.sgn(),
    "sin": lambda x, y: x.cos(),
    "cos": lambda x, y: x.sin().neg_(),
    "erf": lambda x, y: x.square().neg_().exp_().mul_(2 / math.sqrt(math.pi)),
}
"""The derivative of each function by its name; one law for ``torch.f``, ``Tensor.f`` and ``F.f`` alike."""

_ALIASES = {"absolute": "abs", "__abs__": "abs", "arctanh": "atanh", "expit": "sigmoid"}
_UNLIKE = {F.relu6, F.hardtanh, F.elu, F.leaky_relu, F.relu, F.silu, F.mish}  # take `inplace` as well


def _apply(func: Callable[..., Tensor], derivative: Derivative, x: Dual, *args: Any, **kwargs: Any) -> Any:
    value, tangents = x.pair()
    kwargs.pop("inplace", None)
    y = func(value, *args, **kwargs)
    wide = _widened(value)
    factor = derivative(wide, y if wide is value else y.to(wide.dtype), *args, **kwargs).to(value.dtype)
    return Dual(y, (t * factor for t in tangents))


def _widened(x: Tensor) -> Tensor:
    """Derivatives of half-precision values are computed in float32, as PyTorch computes the functions themselves."""
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


def _input(rule: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return rule(*args, **kwargs) if args else rule(kwargs.pop("input"), **kwargs)


for _name, _derivative in DERIVATIVES.items():
    _names = (_name, *(alias for alias, name in _ALIASES.items() if name == _name))
    for _func in named(*_names):
        RULES[_func] = partial(_input, partial(_apply, _func, _derivative))
