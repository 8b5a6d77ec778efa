"""An algorithm is four pure functions; ``compose`` makes them from an estimator, two optimizers and a split.

They know no file, clock, transport or model library, so every runtime runs the same four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spry.core.keys import Key
from spry.core.params import Params, add, merge
from spry.core.unit import Unit, names_of
from spry.estimators.estimate import Estimator
from spry.federated.client import LossOf, accumulate, descend
from spry.federated.mean import ClientMean
from spry.federated.split import Split
from spry.optim.transform import OptState, Transform
from spry.wire.messages import Order, Reply


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round.

    Args:
        round: Rounds absorbed so far.
        weights: All trainable weights.
        optimizer: State of the server's optimizer.
    """

    round: int
    weights: Params
    optimizer: OptState


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What carrying out an order leaves on a client.

    Args:
        reply: What is sent.
        weights: All trainable weights after local training, for personalized evaluation.
    """

    reply: Reply
    weights: Params


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A federated algorithm.

    Args:
        name: What it is called in logs.
        units: The units it trains, in the model's order.
        init: ``(weights) -> state``: makes the server's state.
        plan: ``(state, clients, key) -> {client: order}``: writes the orders of the next round.
        train: ``(loss_of, order, batches, examples) -> trained``: carries out one order on a client's batches.
        absorb: ``(state, replies) -> state``: takes the round's replies, in any order, one at a time, and steps.
    """

    name: str
    units: tuple[Unit, ...]
    init: Callable[[Params], ServerState]
    plan: Callable[[ServerState, Sequence[int], Key], dict[int, Order]]
    train: Callable[[LossOf, Order, Iterable[Any], int], Trained]
    absorb: Callable[[ServerState, Iterable[Reply]], ServerState]


def compose(
    *,
    name: str,
    units: Sequence[Unit],
    estimator: Estimator,
    server: Transform,
    client: Transform | None,
    split: Split,
) -> Algorithm:
    """Compose an algorithm around the one client loop.

    The server takes the example-weighted mean of the replies for each weight, over the clients that trained it, and
    gives ``g = w - mean(w_i)`` (or the mean gradient) to its optimizer: ``sgd(lr=1)`` is plain averaging.

    Args:
        name: What the algorithm is called in logs.
        units: The units to train, in the model's order.
        estimator: How a client gets its gradients.
        server: The server's optimizer.
        client: The client's optimizer, fresh in each round; None to send the mean gradient over the client's batches
            instead of stepping.
        split: Who trains what.

    Returns:
        The algorithm.

    Source:
        Reddi et al. 2021 (arXiv 2003.00295), algorithm 1, for the server's step.
    """
    local = accumulate(estimator) if client is None else descend(estimator, client)

    def init(weights: Params) -> ServerState:
        return ServerState(round=0, weights=weights, optimizer=server.init(weights))

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        dealt = split(units, clients, state.round)
        here = key.fold("round", state.round)
        return {
            client: Order(
                round=state.round,
                client=client,
                weights=state.weights,
                trained=names_of(dealt[client]),
                key=here.fold("client", client),
            )
            for client in clients
        }

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> Trained:
        weights, payload, losses = local(loss_of, order, batches)
        stats = {"loss": sum(losses) / max(len(losses), 1), "steps": float(len(losses))}
        reply = Reply(round=order.round, client=order.client, examples=examples, payload=payload, stats=stats)
        return Trained(reply=reply, weights=merge(order.weights, weights))

    def absorb(state: ServerState, replies: Iterable[Reply]) -> ServerState:
        mean = ClientMean()
        for reply in replies:
            mean.take(reply)
        updates, optimizer = server.update(mean.gradient(state.weights), state.optimizer, state.weights)
        return ServerState(round=state.round + 1, weights=add(state.weights, updates), optimizer=optimizer)

    return Algorithm(name=name, units=tuple(units), init=init, plan=plan, train=train, absorb=absorb)
