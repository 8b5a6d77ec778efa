"""Changes to what is sent and to what is made of it: clipping, compression, noise.

A transform has both halves in one object. The client's half changes a reply's payload before it is sent; the server's
half changes the gradient of the round. Several are applied in their order by clients and unwound in reverse by the
server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.params import Params, dot, tree_map
from spry.wire.messages import Gradient, Order, Payload, Slopes, Weights


class Cohort(NamedTuple):
    """How many clients' replies counted in a round, and how many training examples they own together."""

    round: int
    size: int
    examples: int


class UpdateTransform(Protocol):
    """Both halves of a change to updates."""

    def client(self, payload: Payload, order: Order) -> Payload:
        """Change what a client sends; the kind of payload and its names stay.

        Of a reply of slopes, the slopes and what is sent exactly beside them come one after the other.
        """
        ...

    def server(self, gradient: Params, cohort: Cohort) -> Params:
        """Change the gradient that the server's optimizer is given; its names stay."""
        ...


def transform_payload(transforms: Sequence[UpdateTransform], payload: Payload, order: Order) -> Payload:
    """Apply the clients' halves, the first one first."""
    for transform in transforms:
        payload = transform.client(payload, order)
    return payload


def transform_slopes(
    transforms: Sequence[UpdateTransform], payload: Slopes, beside: type[Weights | Gradient], order: Order
) -> Slopes:
    """Apply the clients' halves to slopes, and to what is sent exactly beside them."""
    exact, measured = (
        transform_payload(transforms, part, order) for part in (beside(payload.exact), Slopes(payload.slopes))
    )
    assert isinstance(measured, Slopes) and not isinstance(exact, Slopes)  # transforms keep the kind
    return Slopes(measured.slopes, exact.values)


def transform_gradient(transforms: Sequence[UpdateTransform], gradient: Params, cohort: Cohort) -> Params:
    """Apply the server's halves, the last one first."""
    for transform in reversed(transforms):
        gradient = transform.server(gradient, cohort)
    return gradient


@dataclass(frozen=True)
class Clip:
    """Shorten a client's update to a norm C > 0, ``u <- u min(1, C / |u|)``; the server's half changes nothing.

    The update is what local training added to the weights, or the mean gradient. Of slopes, each step's are an
    update, and what is sent exactly beside them is another.

    Source:
        Geyer et al. 2017 (arXiv 1712.07557) and McMahan et al. 2018 (arXiv 1710.06963) for clipping client updates.
    """

    norm: float

    def __post_init__(self) -> None:
        if not self.norm > 0:
            raise ConfigError(f"client.clip is {self.norm}; it must be a norm greater than 0, such as 1.0")

    def client(self, payload: Payload, order: Order) -> Payload:
        match payload:
            case Weights(values):
                return Weights(self._moved(values, order.weights))
            case Gradient(values):
                return Gradient(self._shortened(values))
            case Slopes(slopes):
                lengths = slopes.double().norm(dim=1, keepdim=True)
                scale = (self.norm / lengths.clamp(min=self.norm)).to(slopes.dtype)
                return Slopes(torch.where(lengths > self.norm, slopes * scale, slopes))

    def server(self, gradient: Params, cohort: Cohort) -> Params:
        return gradient

    def _moved(self, values: Params, start: Params) -> dict[str, Tensor]:
        update = {name: value - start[name] for name, value in values.items()}
        length = dot(update, update) ** 0.5
        if length <= self.norm:
            return dict(values)
        return {name: start[name] + u * (self.norm / length) for name, u in update.items()}

    def _shortened(self, gradient: Params) -> dict[str, Tensor]:
        length = dot(gradient, gradient) ** 0.5
        scale = self.norm / length if length > self.norm else None
        return dict(gradient) if scale is None else tree_map(lambda g: g * scale, gradient)
