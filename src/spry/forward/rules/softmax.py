"""Softmax and its logarithm: ``dp = p (t - <p, t>)``, ``d log p = t - <p, t>``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.attention.kernel import push_softmax
from spry.forward.dual import Dual
from spry.forward.registry import rule


@rule(F.softmax)
def _functional_softmax(
    input: Dual, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Any:
    return _softmax(input, _dimension(input, dim), dtype)


@rule(F.log_softmax)
def _functional_log_softmax(
    input: Dual, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Any:
    return _log_softmax(input, _dimension(input, dim), dtype)


def _dimension(input: Dual, dim: int | None) -> int:
    """The dimension, by default the one that PyTorch used to take where none is given."""
    if dim is not None:
        return dim
    return 0 if input.dim() in {0, 1, 3} else 1


@rule(torch.softmax, Tensor.softmax, torch.special.softmax)
def _softmax(input: Dual, dim: int, dtype: torch.dtype | None = None) -> Dual:
    value, tangents = _cast(input, dtype)
    p = torch.softmax(value, dim)
    return Dual(p, [push_softmax(t, p, dim) for t in tangents])


@rule(torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax)
def _log_softmax(input: Dual, dim: int, dtype: torch.dtype | None = None) -> Dual:
    value, tangents = _cast(input, dtype)
    log_p = torch.log_softmax(value, dim)
    p = log_p.exp()
    return Dual(log_p, [t - (p * t).sum(dim, keepdim=True) for t in tangents])


def _cast(input: Dual, dtype: torch.dtype | None) -> tuple[Tensor, list[Tensor]]:
    value, tangents = input.pair()
    return (value, list(tangents)) if dtype is None else (value.to(dtype), [t.to(dtype) for t in tangents])


@rule(torch.logsumexp, Tensor.logsumexp)
def _logsumexp(input: Dual, dim: Any, keepdim: bool = False) -> Dual:
    value, tangents = input.pair()
    p = (value - torch.logsumexp(value, dim, keepdim=True)).exp_()
    return Dual(
        torch.logsumexp(value, dim, keepdim=keepdim), [(p * t).sum(dim, keepdim=keepdim) for t in tangents]
    )


@rule(torch.logcumsumexp, Tensor.logcumsumexp)
def _logcumsumexp(input: Dual, dim: int) -> Dual:
    """``y_i = log sum_{j<=i} exp x_j``; PyTorch's forward mode loses what is far below the largest x."""
    if input.is_complex():
        raise ModelError("PyTorch's forward mode is wrong for 'logcumsumexp' of complex numbers")
    out = torch.logcumsumexp(input.primal, dim)

    def share(weight: Tensor) -> Tensor:  # sum_{j<=i} exp(x_j - y_i) w_j for w >= 0
        return (torch.logcumsumexp(input.primal + weight.log(), dim) - out).exp()

    return Dual(out, (share(t.clamp(min=0)) - share((-t).clamp(min=0)) for t in input.tangents))
