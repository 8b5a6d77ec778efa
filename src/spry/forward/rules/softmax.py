"""Softmax and its logarithm: ``dp = p (t - <p, t>)``, ``d log p = t - <p, t>``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.attention.kernel import push_softmax
from spry.forward.dual import Dual
from spry.forward.registry import family, rule


@family([torch.softmax, Tensor.softmax, torch.special.softmax, F.softmax])
def _softmax(func: Any, input: Dual, dim: int | None = None, *options: Any, **named_options: Any) -> Dual:
    dim, dtype = read_options(input, dim, *options, **named_options)
    value, tangents = _cast(input, dtype)
    p = torch.softmax(value, dim)
    return Dual(p, [push_softmax(t, p, dim) for t in tangents])


@family([torch.log_softmax, Tensor.log_softmax, torch.special.log_softmax, F.log_softmax])
def _log_softmax(func: Any, input: Dual, dim: int | None = None, *options: Any, **named_options: Any) -> Dual:
    dim, dtype = read_options(input, dim, *options, **named_options)
    value, tangents = _cast(input, dtype)
    log_p = torch.log_softmax(value, dim)
    p = log_p.exp()
    return Dual(log_p, [t - (p * t).sum(dim, keepdim=True) for t in tangents])


def read_options(
    input: Tensor, dim: int | None, *options: Any, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> tuple[int, torch.dtype | None]:
    """The dimension and the type of a softmax: ``torch.softmax`` and ``F.softmax`` order their options differently.

    Without a dimension it is the one that PyTorch guesses.
    """
    dtype = next((option for option in options if isinstance(option, torch.dtype)), dtype)
    return (0 if input.dim() in {0, 1, 3} else 1) if dim is None else dim, dtype


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
