"""The running mean of the server's weights: less noise in what is evaluated and kept, at no cost to any client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spry.core.errors import ConfigError
from spry.core.params import Params, merge, tree_map
from spry.federated.algorithm import Algorithm, ServerState
from spry.wire.messages import Answer

AVERAGE = "average"
"""The slot of the server's memory that holds the mean."""


def averaged(algorithm: Algorithm, decay: float) -> Algorithm:
    """Let the server keep a running mean of its weights, which ``delivered`` reads.

    ``a_t = a_{t-1} + (1 - beta) / (1 - beta^t) (w_t - a_{t-1})``, the mean of the weights after rounds 1 to t with
    weights ``beta^(t-s)``. ``beta = decay`` in [0, 1) looks about ``1 / (1 - beta)`` rounds back. Clients go on from
    ``w_t``, so training is the same to the bit; a few clients with uneven classes pull ``w_t`` to and fro, and the
    mean evens that out.

    Raises:
        ConfigError: If the decay is out of range.

    Source:
        Polyak & Juditsky 1992 for the mean, with exponential weights and the bias correction of Kingma & Ba 2015.
    """
    if not 0 <= decay < 1:
        raise ConfigError(f"server.ema = {decay} was given; it is a decay in [0, 1), such as 0.75")

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        after = algorithm.absorb(state, answers)
        rate = (1 - decay) / (1 - decay**after.round)
        before = state.memory.get(AVERAGE, after.weights)
        mean = tree_map(lambda a, w: a + rate * (w - a), before, after.weights)
        return replace(after, memory={**after.memory, AVERAGE: mean})

    return replace(algorithm, absorb=absorb)


def delivered(state: ServerState, sent: Params | None = None) -> Params:
    """Read the weights to evaluate and keep: the running mean if there is one, else those that were sent."""
    return merge(state.weights if sent is None else sent, state.memory.get(AVERAGE, {}))
