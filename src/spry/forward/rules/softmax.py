"""Softmax and its logarithm: ``dp = p (t - <p, t>)``, ``d log p = t - <p, t>``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual
from spry.forward.registry import family, rule


@family([torch.softmax, Tensor.softmax, torch.special.softmax, F.softmax])
def _softmax(
    func: Any, input: Dual, dim: int, _stacklevel: Any = 3, dtype: torch.dtype | None = None
) -> Dual:
    value, tangents = input.pair() if dtype is None else input.to(dtype).pair()
    p = torch.softmax(value, dim)

    def column(t: Tensor) -> Tensor:
        t = t * p
        return t.sub_(p * t.sum(dim, keepdim=True))

    return Dual(p, map(column, tangents))


@family([torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax, F.log_softmax])
def _log_softmax(
    func: Any, input: Dual, dim: int, _stacklevel: Any = 3, dtype: torch.dtype | None = None
) -> Dual:
    value, tangents = input.pair() if dtype is None else input.to(dtype).pair()
    log_p = torch.log_softmax(value, dim)
    p = log_p.exp()
    return Dual(log_p, (t - (p * t).sum(dim, keepdim=True) for t in tangents))


@rule(torch.logsumexp, Tensor.logsumexp)
def _logsumexp(input: Dual, dim: Any, keepdim: bool = False) -> Dual:
    value, tangents = input.pair()
    out = torch.logsumexp(value, dim, keepdim=True)
    p = (value - out).exp_()
    columns = ((p * t).sum(dim, keepdim=keepdim) for t in tangents)
    return Dual(torch.logsumexp(value, dim, keepdim=keepdim), columns)
