"""Dropout: one mask for the value and all derivatives."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from spry.forward.dual import Dual
from spry.forward.registry import rule


@rule(torch.dropout)
def _torch_dropout(input: Dual, p: float, train: bool) -> Any:
    return _dropout(input, p, train)


@rule(F.dropout)
def _dropout(input: Dual, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if not training or p == 0:
        return input
    ones = torch.ones((), dtype=input.dtype, device=input.device).expand(input.shape)
    return input * F.dropout(ones, p, training=True)
