"""Layer norm and RMS norm: with ``y`` the normalized rows and ``1/σ`` their scale, ``dy = (dx - proj(dx)) / σ``.

The projection takes out what the norm takes out: the row's mean (layer norm only) and its component along ``y``. It is
symmetric, so layer norm's backward kernel is its forward rule as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual
from spry.forward.registry import named, rule


@rule(F.layer_norm, torch.layer_norm)
def _layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    if isinstance(input, Dual):
        y: Any = _standardized(input, normalized_shape, eps)
        if all(x is None or (not isinstance(x, Dual) and x.dtype == y.dtype) for x in (weight, bias)):
            return _scaled(y, weight, bias)
    else:
        y = F.layer_norm(input, normalized_shape, None, None, eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _scaled(y: Dual, weight: Tensor | None, bias: Tensor | None) -> Dual:
    """``y w + b`` in the memory of ``y``, which nobody else sees."""
    value, tangents = y.pair()
    if weight is not None:
        for x in (value, *tangents):
            x.mul_(weight)
    if bias is not None:
        value.add_(bias)
    return y


def _standardized(input: Dual, shape: Sequence[int], eps: float) -> Dual:
    value, tangents = input.pair()
    y, mean, scale = torch.native_layer_norm(value, shape, None, None, eps)

    def push(t: Tensor) -> Tensor:
        mask = [True, False, False]
        return torch.ops.aten.native_layer_norm_backward(t, value, shape, mean, scale, None, None, mask)[0]

    return Dual(y, [push(t.contiguous()) for t in tangents])


@rule(*named("rms_norm"))
def _rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    if not isinstance(input, Dual):
        return F.rms_norm(input, normalized_shape, None, eps) * weight
    value, tangents = input.pair()
    wide = torch.float32 if value.dtype in {torch.float16, torch.bfloat16} else value.dtype
    over = tuple(range(-len(normalized_shape), 0))
    x = value.to(wide)
    eps = torch.finfo(value.dtype).eps if eps is None else eps
    scale = x.square().mean(over, keepdim=True).add_(eps).rsqrt_()
    y = x * scale

    def push(t: Tensor) -> Tensor:
        t = t.to(wide)
        along = (y * t).mean(over, keepdim=True)
        return torch.addcmul(t, y, along, value=-1).mul_(scale).to(value.dtype)

    normalized = Dual(y.to(value.dtype), [push(t) for t in tangents])
    return normalized if weight is None else normalized * weight
