"""The linear layer: ``y = x W' + b`` with any of the three dual."""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual, Tangents, num_tangents, primal
from spry.forward.registry import rule

JOINT = 1024
"""Rows up to which the value and its derivatives go through the weight together: few rows do not fill a GEMM."""


@rule(F.linear)
def _linear(input: Any, weight: Any, bias: Any = None) -> Dual:
    if isinstance(input, Dual) and not isinstance(weight, Dual) and not isinstance(bias, Dual):
        return _frozen(input, weight, bias)
    x, w, b = primal(input), primal(weight), primal(bias)
    out = F.linear(x, w, b)

    def column(k: int) -> Tensor:
        b_k = bias.tangents[k] if isinstance(bias, Dual) else None
        if isinstance(input, Dual):
            total = F.linear(input.tangents[k], w, b_k)
            return total.add_(F.linear(x, weight.tangents[k])) if isinstance(weight, Dual) else total
        if isinstance(weight, Dual):
            return F.linear(x, weight.tangents[k], b_k)
        assert b_k is not None
        return b_k.expand(out.shape)

    return Dual(out, [column(k) for k in range(num_tangents(input, weight, bias))])


def joined(x: Tensor, tangents: Tangents) -> Tensor:
    """The value and its K derivatives in one tensor, shape (1 + K, *x.shape): a view where they lie side by side."""
    size, storage = x.numel(), x.untyped_storage()._cdata
    beside = not torch.compiler.is_compiling() and all(
        t.is_contiguous() and t.untyped_storage()._cdata == storage and t.storage_offset() == start
        for t, start in zip((x, *tangents), count(x.storage_offset(), size), strict=False)
    )
    if not beside or x.requires_grad:
        return torch.stack([x, *tangents])
    return x.as_strided((1 + len(tangents), *x.shape), (size, *x.stride()))


def _frozen(input: Dual, weight: Tensor, bias: Tensor | None) -> Dual:
    x, tangents = input.pair()
    if x.numel() > JOINT * x.shape[-1]:
        return Dual(F.linear(x, weight, bias), [F.linear(t, weight) for t in tangents])
    out, *columns = F.linear(joined(x, tangents), weight).unbind(0)
    if bias is None:
        return Dual(out, columns)
    return Dual(out + bias if out.requires_grad else out.add_(bias), columns)
