"""Optimizers as values: a ``Transform`` turns gradients into updates and carries its state from step to step.

The same transforms serve on the client and on the server. Their state is flat, slot -> name -> tensor, so that a
client's slice of it can be cut out and a checkpoint can be written without knowing which optimizer it is. A weight that
gets no gradient in a step (its owner fell out of the round) keeps its value and its state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from spry.core.params import Params

OptState = Mapping[str, Mapping[str, Tensor]]
"""Slot name -> weight name -> tensor."""


@dataclass(frozen=True)
class Transform:
    """A pure optimizer: ``init(weights) -> state`` and ``update(gradients, state, weights) -> (updates, state)``.

    The gradients may name only some of the weights; the updates name the same ones and are *added* to the weights;
    the rest of the state stays.
    """

    init: Callable[[Params], OptState]
    update: Callable[[Params, OptState, Params], tuple[dict[str, Tensor], OptState]]


Slots = dict[str, Tensor]


def tensorwise(
    init: Callable[[Tensor], Slots], update: Callable[[Tensor, Slots, Tensor], tuple[Tensor, Slots]]
) -> Transform:
    """Lift a rule for one tensor to a transform that applies it to each named weight separately.

    ``init`` makes the slots of a weight; ``update`` turns (gradient, slots, weight) into (update, slots), and must
    not write into its arguments.
    """

    def init_all(params: Params) -> OptState:
        state: dict[str, dict[str, Tensor]] = {}
        for name, value in params.items():
            for slot, tensor in init(value).items():
                state.setdefault(slot, {})[name] = tensor
        return state

    def update_all(grads: Params, state: OptState, params: Params) -> tuple[dict[str, Tensor], OptState]:
        updates: dict[str, Tensor] = {}
        new = {slot: dict(tensors) for slot, tensors in state.items()}
        for name, grad in grads.items():
            slots = {slot: tensors[name] for slot, tensors in state.items()}
            updates[name], slots = update(grad, slots, params[name])
            for slot, tensor in slots.items():
                new[slot][name] = tensor
        return updates, new

    return Transform(init_all, update_all)


def scaled(transform: Transform, factors: Mapping[str, float], others: float = 1.0) -> Transform:
    """Multiply the updates of a transform, ``u_n <- c_n u_n``: a step size of its own for each weight.

    Decoupled weight decay is part of the update, and scales with it. The state is the transform's own.

    Args:
        factors: ``c_n`` >= 0 by weight name.
        others: The same for weights that they do not name.
    """

    def update(grads: Params, state: OptState, params: Params) -> tuple[dict[str, Tensor], OptState]:
        updates, new = transform.update(grads, state, params)
        return {name: factors.get(name, others) * u for name, u in updates.items()}, new

    return Transform(transform.init, update)


def chain(*transforms: Transform) -> Transform:
    """Feed the updates of each transform to the next as its gradients; slots of the i-th get the prefix ``"i."``."""

    def init(params: Params) -> OptState:
        return {
            f"{i}.{s}": dict(t) for i, part in enumerate(transforms) for s, t in part.init(params).items()
        }

    def update(grads: Params, state: OptState, params: Params) -> tuple[dict[str, Tensor], OptState]:
        new: dict[str, Mapping[str, Tensor]] = {}
        for i, part in enumerate(transforms):
            prefix = f"{i}."
            own = {slot.removeprefix(prefix): t for slot, t in state.items() if slot.startswith(prefix)}
            grads, own = part.update(grads, own, params)
            new |= {prefix + slot: tensors for slot, tensors in own.items()}
        return dict(grads), new

    return Transform(init, update)
