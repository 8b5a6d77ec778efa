"""The exact gradient of a head alone, at the memory of inference, whatever maps of the last block belong to it."""

from __future__ import annotations

from torch import Tensor

from spry.core.params import Params, tree_map
from spry.estimators.backprop import by_autograd
from spry.estimators.estimate import Estimator
from spry.forward.dual import Dual, primal
from spry.forward.loss import Loss


def exact_head() -> Estimator:
    """Compute the gradient of weights near the output by autograd over the engine's row-wise programs.

    The weights enter as duals without tangents: nothing is differentiated forward, but what depends on them waits until
    it is known which rows are read, so that autograd keeps those of the pooled positions only. Weights that all
    positions pass get their exact gradient, too, with the tape of plain backpropagation, except a last layer before
    cross-entropy: its gradient is that of the closed form, and no logits are kept (``forward/rules/head.py``).

    Returns:
        The estimator; it draws nothing from its key.
    """
    return by_autograd(_evaluate)


def _evaluate(loss: Loss, leaves: Params) -> Tensor:
    return primal(loss(tree_map(lambda leaf: Dual(leaf, ()), leaves)))
