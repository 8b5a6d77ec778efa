"""Functions that write their result over an argument that no later step of a program reads.

The widened rows of an MLP are most of a program's workspace. Where the activation's result takes their place, they
exist once instead of twice; and its value and derivatives then lie side by side, as the next linear layer wants them.
The numbers are those of the functions' rules, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual
from spry.forward.registry import named

_aten = torch.ops.aten


def _gelu(x: Dual, approximate: str = "none") -> Dual:
    value, tangents = x.pair()
    if len(tangents) == 1:
        _aten.gelu_backward(tangents[0], value, approximate=approximate, grad_input=tangents[0])
    elif tangents:
        _scale(tangents, _aten.gelu_backward(torch.ones_like(value), value, approximate=approximate))
    _aten.gelu_(value, approximate=approximate)
    return x


def _silu(x: Dual, inplace: bool = False) -> Dual:
    value, tangents = x.pair()
    if len(tangents) == 1:
        _aten.silu_backward(tangents[0], value, grad_input=tangents[0])
    elif tangents:
        _scale(tangents, _aten.silu_backward(torch.ones_like(value), value))
    _aten.silu_(value)
    return x


def _mul(x: Dual, y: Dual) -> Dual:
    value, tangents = x.pair()
    for t, u in zip(tangents, y.tangents, strict=True):
        t.mul_(y.primal).addcmul_(value, u)
    value.mul_(y.primal)
    return x


def _scale(tangents: tuple[Tensor, ...], factor: Tensor) -> None:
    for t in tangents:
        t.mul_(factor)


OVERWRITING: dict[Callable[..., Any], Callable[..., Dual]] = {
    F.gelu: _gelu,
    F.silu: _silu,
    **dict.fromkeys(named("mul __mul__"), _mul),
}
"""Functions and what computes them in place of their first argument."""


def can_overwrite(func: Callable[..., Any], args: list[Any]) -> bool:
    """Tell whether a function's arguments allow it, given that the first one's memory is its own and not read later."""
    x, *rest = args
    if func not in OVERWRITING or not isinstance(x, Dual) or torch.compiler.is_compiling():
        return False
    if OVERWRITING[func] is _mul and not (
        len(rest) == 1 and isinstance(rest[0], Dual) and rest[0] is not x and _alike(rest[0], x)
    ):
        return False
    return all(t.is_contiguous() for t in (x.primal, *x.tangents))


def _alike(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype
