"""The linear layer: ``y = x W' + b`` with any of the three dual."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from spry.forward.dual import Dual, order, primal
from spry.forward.registry import rule


@rule(F.linear)
def _linear(input: Any, weight: Any, bias: Any = None) -> Dual:
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

    return Dual(out, [column(k) for k in range(order(input, weight, bias))])
