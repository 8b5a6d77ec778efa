"""The rival that needs a tape: reverse-mode automatic differentiation, plain or with activation checkpointing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, leaf, tree_map
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss


def backprop(checkpoint: bool = False) -> Estimator:
    """Compute the exact gradient by backpropagation.

    Args:
        checkpoint: Whether to recompute each layer's activations in the backward pass instead of keeping them.

    Returns:
        The estimator; it draws nothing from its key.

    Source:
        Chen et al. 2016 (arXiv 1604.06174) for checkpointing.
    """
    return autograd_gradient(lambda loss, leaves: loss(leaves, checkpoint=checkpoint))


def autograd_gradient(evaluate: Callable[[Loss, Params], Tensor]) -> Estimator:
    """Compute the exact gradient of the scalar ``evaluate(loss, weights)``, which carries autograd's graph."""

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        if not params:  # a client may be dealt nothing, whose loss is of interest all the same
            return _loss_alone(loss)
        leaves = tree_map(leaf, params)
        sums = tree_map(torch.zeros_like, params)
        value = 0.0
        for share, part in loss.microbatches():
            with torch.enable_grad():
                part_value = evaluate(part, leaves)
            gradients = torch.autograd.grad(part_value, list(leaves.values()))
            for name, gradient in zip(leaves, gradients, strict=True):
                sums[name].add_(gradient, alpha=share)
            value += share * float(part_value.detach())
        return Estimate(value=value, gradient=sums)

    return estimate


def _loss_alone(loss: Loss) -> Estimate:
    with torch.no_grad():
        value = sum(share * float(part({})) for share, part in loss.microbatches())
    return Estimate(value=value, gradient={})
