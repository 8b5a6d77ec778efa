"""What server and clients tell each other: an order down, a reply up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one client is asked to do in one round.

    Args:
        round: From 0.
        weights: All trainable weights, as the server holds them.
        trained: Names of the weights that this client trains; the others it only computes with.
        key: Where the client's draws come from.
        num_directions: K, slopes per local step that the reply may have; 0 where no slopes are sent.
        max_steps: Most local steps that the reply may have; None leaves it to the codec's own bound.
        guess: A guess of the gradient of the trained weights, for methods that use one.
        group: Which of the method's groups of clients this one is in.
    """

    round: int
    client: int
    weights: Params
    trained: tuple[str, ...]
    key: Key
    num_directions: int = 0
    max_steps: int | None = None
    guess: Params | None = None
    group: int = 0


@dataclass(frozen=True)
class Weights:
    """A payload: the trained weights after local training."""

    values: Params


@dataclass(frozen=True)
class Gradient:
    """A payload: the mean gradient of the trained weights at the order's weights."""

    values: Params


@dataclass(frozen=True)
class Slopes:
    """A payload: the slopes of every local step; with the order's key they say what the trained weights became.

    Args:
        slopes: Shape (steps, K).
        exact: What was not measured along directions (the head): its weights after local training, or its mean gradient
            from a client that does not step.
    """

    slopes: Tensor
    exact: Params = field(default_factory=dict)


Payload = Weights | Gradient | Slopes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one client sends back.

    Args:
        examples: How many training examples it owns; its weight in averages.
        steps: Local steps taken.
        loss: Mean loss over its steps, for the log; kept in float32, as it is sent.
    """

    round: int
    client: int
    examples: int
    payload: Payload
    steps: int
    loss: float

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and refused as that
            object.__setattr__(self, "loss", float(np.float32(self.loss)))


class Answer(NamedTuple):
    """A reply together with the order it answers."""

    order: Order
    reply: Reply
