"""Layer norm and RMS norm: with ``y`` the normalized rows and ``1/σ`` their scale, ``dy = (dx - proj(dx)) / σ``.

The projection takes out what the norm takes out: the row's mean (layer norm only) and its component along ``y``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual, primal
from spry.forward.registry import rule


@rule(F.layer_norm, torch.layer_norm)
def _layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Any:
    normalized = (
        _normalized(input, len(normalized_shape), eps, centered=True)
        if isinstance(input, Dual)
        else (F.layer_norm(input, normalized_shape, None, None, eps))
    )
    return _affine(normalized, weight, bias)


@rule(*([F.rms_norm, torch.rms_norm] if hasattr(F, "rms_norm") else []))
def _rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    if eps is None:
        eps = torch.finfo(input.dtype).eps
    normalized = (
        _normalized(input, len(normalized_shape), eps, centered=False)
        if isinstance(input, Dual)
        else (F.rms_norm(input, normalized_shape, None, eps))
    )
    return _affine(normalized, weight, None)


def _normalized(input: Dual, dims: int, eps: float, *, centered: bool) -> Dual:
    value, tangents = input.pair()
    wide = torch.float32 if value.dtype in {torch.float16, torch.bfloat16} else value.dtype
    over = tuple(range(-dims, 0))
    y = value.to(wide, copy=True)
    if centered:
        y -= y.mean(over, keepdim=True)
    scale = y.square().mean(over, keepdim=True).add_(eps).rsqrt_()
    y *= scale

    def column(t: Tensor) -> Tensor:
        t = t.to(wide, copy=True)
        if centered:
            t -= t.mean(over, keepdim=True)
        t.addcmul_(y, (y * t).mean(over, keepdim=True), value=-1)
        return t.mul_(scale).to(value.dtype)

    columns = [column(t) for t in tangents]
    return Dual(y.to(value.dtype), columns)


def _affine(y: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias
