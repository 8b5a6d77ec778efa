"""What server and clients tell each other: an order down, a reply up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spry.core.keys import Key
from spry.core.params import Params, nbytes


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
    """

    round: int
    client: int
    weights: Params
    trained: tuple[str, ...]
    key: Key
    hint: Params | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors sent down."""
        return nbytes(self.weights) + nbytes(self.hint or {})


@dataclass(frozen=True)
class Weights:
    """A reply's payload: the trained weights after local training."""

    values: Params

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors sent up."""
        return nbytes(self.values)


@dataclass(frozen=True)
class Gradient:
    """A reply's payload: a gradient of the trained weights at the order's weights."""

    values: Params

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors sent up."""
        return nbytes(self.values)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one client sends back.

    Args:
        round: The round it answers.
        client: Who sends it.
        examples: How many training examples it owns; its weight in averages.
        payload: What it found.
        stats: Numbers for the log, such as ``loss``.
    """

    round: int
    client: int
    examples: int
    payload: Weights | Gradient
    stats: Mapping[str, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the payload."""
        return self.payload.nbytes
