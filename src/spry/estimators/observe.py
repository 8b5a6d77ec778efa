"""What maps see of a probe: their inputs, and the gradients of the examples' losses by their outputs, exactly.

Backpropagation gives both for all maps at once, where forward mode would take a pass for each map. Its tape is that of
one part of the probe, which may be a single short text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spry.core.errors import ModelError
from spry.core.params import Params
from spry.forward.loss import Loss


class Seen(NamedTuple):
    """One use of a map ``z = A x`` by B examples; T is 1 where an example has one row, as after pooling.

    Args:
        inputs: x, shape (B, T, D).
        gradients: ``dL_b/dz`` of each example's own loss, shape (B, T, R).
    """

    inputs: Tensor
    gradients: Tensor


def observe(part: Loss, params: Params, names: Sequence[str]) -> dict[str, list[Seen]]:
    """Look at the inputs and the outputs' gradients of some maps, in one backward pass.

    Args:
        part: The loss of a part of a batch, whose tape is kept for a moment.
        params: All trainable weights.
        names: Those among them that are weights of ``torch.nn.functional.linear``.

    Returns:
        What each use of a map saw, by name; nothing for maps that were not used.

    Raises:
        ModelError: If the inputs of a map do not lie example by example.
    """
    aliases = {name: params[name].detach() for name in names}
    with torch.inference_mode(False), torch.enable_grad(), _Observer(aliases) as seen:
        losses = part.examples({**params, **aliases})
        total = losses.sum()
    uses = [use for uses in seen.uses.values() for use in uses]
    if not losses.requires_grad:
        return {}
    found = iter(torch.autograd.grad(total, [z for _, z in uses], materialize_grads=True))
    count = len(losses)
    return {
        name: [Seen(_by_example(x, count, name), _by_example(next(found), count, name)) for x, _ in own]
        for name, own in seen.uses.items()
    }


def _by_example(x: Tensor, count: int, name: str) -> Tensor:
    """As (B, T, width)."""
    if len(x) != count and (x.dim() != 2 or len(x) % count):
        raise ModelError(
            f"the input of {name!r} has shape {tuple(x.shape)}, which does not lie example by example in a batch of "
            f"{count}; estimate its gradient with weight directions (method.estimator = 'weight')"
        )
    return x.reshape(count, -1, x.shape[-1])


class _Observer(TorchFunctionMode):
    """Notes inputs and outputs of the maps of some weights, and lets gradients flow from there on."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(weight): name for name, weight in weights.items()}
        self.uses: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note observed maps; pass on everything else."""
        out = func(*args, **(kwargs or {}))
        if func is F.linear and (name := self._names.get(id(_weight(*args, **(kwargs or {}))))):
            out = out if out.requires_grad else out.requires_grad_()
            self.uses.setdefault(name, []).append((_input(*args, **(kwargs or {})).detach(), out))
        return out


def _weight(input: Any, weight: Any, bias: Any = None) -> Any:
    return weight


def _input(input: Any, weight: Any, bias: Any = None) -> Any:
    return input
