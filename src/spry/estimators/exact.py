"""The exact gradient of a head alone, at the memory of inference, whatever maps of the last block belong to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spry.core.params import Params, tree_map
from spry.estimators.backprop import autograd_gradient
from spry.estimators.estimate import Estimator
from spry.forward.dual import Dual, primal
from spry.forward.promotion import forward_pass


def exact_head() -> Estimator:
    """Compute the gradient of weights near the output by autograd over the engine's row-wise programs.

    Weights that all positions pass get their exact gradient, too, with the tape of plain backpropagation, except a last
    layer before cross-entropy: its gradient is that of the closed form, and no logits are kept
    (``forward/rules/head.py``).

    Returns:
        The estimator; it draws nothing from its key.
    """
    return autograd_gradient(evaluate_lazily)


def evaluate_lazily(
    evaluate: Callable[[Params], Tensor], head: Params, others: Params | None = None
) -> Tensor:
    """Evaluate where no weight moves, by the engine's row-wise programs from the head on.

    The head enters as duals without tangents: nothing is differentiated forward, but what depends on it waits until it
    is known which rows are read, so that autograd keeps those of the pooled positions only.

    Args:
        head: Weights near the output; autograd's graph is that of those that require grad.
        others: Weights that stay plain; the model keeps its own for the rest.
    """
    waiting = tree_map(lambda w: Dual(w, ()), head)
    with torch.set_grad_enabled(bool(head)), forward_pass():
        return primal(evaluate({**(others or {}), **waiting}))
