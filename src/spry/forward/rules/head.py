"""Cross-entropy behind a trained last layer, in closed form: ``dL_i/dz_i = softmax(z_i) - onehot_i``.

Autograd would keep the logits of all rows, three times over: more than a backbone's tape where the layer is as wide as
a vocabulary. Here a few rows' logits exist at a time, once for losses and tangents and once for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from spry.forward.chunking import WORKSPACE, by_device
from spry.forward.dual import Dual, num_tangents, primal
from spry.forward.lazy.dual import LazyDual, is_lazy
from spry.forward.lazy.node import Node
from spry.forward.registry import lazy_rule
from spry.forward.rules.loss import has_class_labels, reduce_losses, row_losses


@lazy_rule(F.cross_entropy)
def _cross_entropy(func: Callable[..., Any], input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    layer = _last_layer(input)
    if layer is None or args or not has_class_labels(input, target, **kwargs):
        return NotImplemented
    features, (weight, bias) = layer
    ignored = kwargs.get("ignore_index", -100)
    h, tangents = features.pair()
    still = Dual(h.detach(), tangents)
    logits: Any = F.linear(still, weight.detach(), None if bias is None else bias.detach()).to(input.dtype)
    value, slopes = row_losses(logits, target.unsqueeze(-1), ignored).pair()
    value = _ClosedForm.apply(h, weight, bias, target, ignored, input.dtype, value)
    return reduce_losses(Dual(value, slopes), target, ignored, kwargs.get("reduction", "mean"))


def _last_layer(logits: Any) -> tuple[LazyDual, tuple[Tensor, Tensor | None]] | None:
    """The features and the weights that lazy logits are computed from, if autograd wants the weights' gradient."""
    if not is_lazy(logits) or not logits.node.requires_grad:
        return None
    node: Any = logits.node
    if node.func is Tensor.to and isinstance(node.args[0], Node):  # models compute losses in float32
        node = node.args[0]
    if node.func is not F.linear:
        return None
    features, weight, bias = node.args
    moved = any(isinstance(x, Dual) and num_tangents(x) for x in (weight, bias))
    if moved or not isinstance(features, Node):
        return None
    return logits.like(features), (primal(weight), primal(bias))


class _ClosedForm(torch.autograd.Function):
    """Losses of rows that are known already, with their gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        ignore_index: int,
        dtype: torch.dtype,
        losses: Tensor,
    ) -> Tensor:
        """Pass the losses on, shape (N, 1)."""
        ctx.save_for_backward(features, weight, bias, target)
        ctx.ignore_index, ctx.dtype = ignore_index, dtype
        return losses.view_as(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute the gradients by features (N, d), weight (V, d) and bias (V,), some rows at a time."""
        features, weight, bias, target = ctx.saved_tensors
        found = [
            torch.zeros_like(x) if needed else None
            for x, needed in zip((features, weight, bias), ctx.needs_input_grad[:3], strict=True)
        ]
        kept = target != ctx.ignore_index
        label = target.masked_fill(~kept, 0).unsqueeze(-1)
        scale = (grads[0] * kept.unsqueeze(-1)).to(ctx.dtype)
        step = max(32, by_device(WORKSPACE, weight.device) // (2 * weight.shape[0] * ctx.dtype.itemsize))
        for start in range(0, len(target), step):
            part = slice(start, start + step)
            error = F.linear(features[part], weight, bias).to(ctx.dtype).softmax(-1)
            error.scatter_add_(-1, label[part], error.new_full((1, 1), -1.0).expand(len(error), 1))
            error = error.mul_(scale[part]).to(weight.dtype)
            by_features, by_weight, by_bias = found
            if by_features is not None:
                torch.mm(error, weight, out=by_features[part])
            if by_weight is not None:
                by_weight.addmm_(error.mT, features[part])
            if by_bias is not None:
                by_bias += error.sum(0)
        return *found, None, None, None, None
