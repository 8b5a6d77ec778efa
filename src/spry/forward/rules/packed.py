"""The linear layer over a frozen packed weight, with a dual input, a dual bias, or both."""

from __future__ import annotations

from typing import Any

from spry.forward.dual import Dual, primal
from spry.forward.packed import Packed, packed_linear, packed_products
from spry.forward.registry import rule
from spry.forward.rules.linear import JOINT, joined


@rule(packed_linear)
def _packed_linear(input: Any, weight: Packed, bias: Any = None) -> Dual:
    if not isinstance(input, Dual):
        out = packed_linear(input, weight, primal(bias))
        return Dual(out, [b.expand(out.shape) for b in bias.tangents])
    x, tangents = input.pair()
    if x.numel() > JOINT * x.shape[-1]:
        out, *columns = packed_products([x, *tangents], weight)
    else:
        out, *columns = packed_products([joined(x, tangents)], weight)[0].unbind(0)
    if bias is None:
        return Dual(out, columns)
    if isinstance(bias, Dual):
        columns = [column.add_(b) for column, b in zip(columns, bias.tangents, strict=True)]
    return Dual(out.add_(primal(bias)), columns)
