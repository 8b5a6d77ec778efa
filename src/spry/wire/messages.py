"""What server and clients tell each other: an order down, a reply up."""

from __future__ import annotations

from collections.abc import Mapping
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
        round: The round, from 0.
        client: Whom it is for.
        weights: All trainable weights, as the server holds them.
        trained: Names of the weights that this client trains; the others it only computes with.
        key: Where the client's draws come from.
        hint: A guess of the gradient of the trained weights, for estimators that use one.
        choices: Small numbers that the server chose for this order, such as its K, by name.
    """

    round: int
    client: int
    weights: Params
    trained: tuple[str, ...]
    key: Key
    hint: Params | None = None
    choices: Mapping[str, int] = field(default_factory=dict)


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
        round: The round it answers.
        client: Who sends it.
        examples: How many training examples it owns; its weight in averages.
        payload: What it found.
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
        object.__setattr__(self, "loss", float(np.float32(self.loss)))


@dataclass(frozen=True, kw_only=True)
class CatchUp:
    """What a client is sent in place of an order's weights if it knows an earlier round: all that happened since.

    Args:
        client: Whom it is for.
        key: The run's key, from which those of all orders follow.
        since: The round at whose start the client knows the server's state.
        rounds: What each round since then was, as ``wire.history.encode_round`` wrote it.
        asked: The clients of the round that begins now, in the order in which they were asked.
        exact: The weights that no slopes determine, as they are now.
        digest: Of all weights as they are now, for the client to compare with.
    """

    client: int
    key: Key
    since: int
    rounds: tuple[bytes, ...]
    asked: tuple[int, ...]
    exact: Params
    digest: bytes

    @property
    def round(self) -> int:
        """The round that begins now."""
        return self.since + len(self.rounds)


class Answer(NamedTuple):
    """A reply together with the order it answers.

    Args:
        order: What was asked.
        reply: What came back.
    """

    order: Order
    reply: Reply
