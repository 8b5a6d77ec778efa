"""LoRA's backward pass as MeSP has it: the projection ``A x`` is computed again instead of kept.

An adapted map ``y = W x + b + s B A x`` runs as one function that keeps its input alone, which maps that read the same
input share. Its backward pass, with ``g = dL/dy`` and ``h = A x`` computed again, is

    dL/dB = s g h'        dL/dA = s (B' g) x'        dL/dx = W' g + s A' (B' g)

The frozen W has no gradient, so autograd keeps nothing for it either: what is saved is h, r numbers a token and map.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Adapted(torch.autograd.Function):
    """``W x + b + s B A x`` of frozen W and b; no ``A x`` is kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        """Compute the map of x, shape (..., in), with a of shape (r, in) and b of shape (out, r)."""
        ctx.save_for_backward(x, weight, a, b)
        ctx.scaling = scaling
        return F.linear(x, weight, bias).add_(F.linear(F.linear(x, a), b), alpha=scaling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute the gradients by x, a and b from that by the result, shape (..., out)."""
        x, weight, a, b = ctx.saved_tensors
        g, rows = grads[0].flatten(0, -2), x.flatten(0, -2)
        by_h = (g @ b).mul_(ctx.scaling)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = (g @ weight).addmm_(by_h, a).view(x.shape)
        by_b = (g.mT @ F.linear(rows, a)).mul_(ctx.scaling)
        return by_x, None, None, by_h.mT @ rows, by_b, None


@contextmanager
def projections_recomputed(model: nn.Module) -> Generator[int]:
    """Run LoRA's linear maps without keeping ``A x``; gives how many maps those are.

    Maps that it does not cover run as they do anyway, by autograd: other adapters than LoRA, DoRA, several adapters at
    once, a dropout that is on, trained or quantised base weights.

    Source:
        MeSP, arXiv 2602.13069.
    """
    from peft.tuners.lora.layer import Linear

    found = [child for child in model.modules() if type(child) is Linear and _is_plain(child)]
    for child in found:
        child.forward = MethodType(_forward, child)
    try:
        yield len(found)
    finally:
        for child in found:
            del child.forward


def _is_plain(layer: Any) -> bool:
    base = layer.get_base_layer()
    if type(base) is not nn.Linear or len(layer.active_adapters) != 1 or layer.merged or layer.lora_variant:
        return False
    name = layer.active_adapters[0]
    if name not in layer.lora_A or layer.lora_A[name].bias is not None or layer.lora_B[name].bias is not None:
        return False
    trained = any(weight is not None and weight.requires_grad for weight in (base.weight, base.bias))
    return not trained and not getattr(layer.lora_dropout[name], "p", 0.0)


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    base, name = layer.get_base_layer(), layer.active_adapters[0]
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    if args or kwargs or not x.dtype == a.dtype == base.weight.dtype:
        return type(layer).forward(layer, x, *args, **kwargs)
    return _Adapted.apply(x, base.weight, base.bias, a, b, layer.scaling[name])  # pyright: ignore[reportReturnType]
