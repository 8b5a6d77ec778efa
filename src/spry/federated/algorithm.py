"""An algorithm is four pure functions; ``compose`` makes them from an estimator, two optimizers and a split.

They know no file, clock, transport or model library, so every runtime runs the same four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params, add, merge, restrict
from spry.core.unit import Unit, names_of
from spry.estimators.estimate import Estimator
from spry.estimators.projected import Measurement, recorded
from spry.federated.client import LocalTraining, LossOf, accumulate, descend, replay
from spry.federated.mean import ClientMean
from spry.federated.recall import Recall
from spry.federated.sampled import COUNT, Sampled
from spry.federated.split import Split
from spry.optim.transform import OptState, Transform
from spry.wire.messages import Answer, Order, Reply, Slopes


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round.

    Args:
        round: Rounds absorbed so far.
        weights: All trainable weights.
        optimizer: State of the server's optimizer.
        memory: Whatever else a method remembers, slot -> name -> tensor; under a weight's name a tensor of its shape.
    """

    round: int
    weights: Params
    optimizer: OptState
    memory: Mapping[str, Params] = field(default_factory=dict)


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
        absorb: ``(state, answers) -> state``: takes the round's replies, in any order, one at a time, and steps.
        federated: Whether anything travels; if not, no bytes are counted.
        measured: What the slopes in replies were measured along; None if replies carry weights or gradients.
        remembers: Whether the server carries more than weights from round to round, such as moments.
    """

    name: str
    units: tuple[Unit, ...]
    init: Callable[[Params], ServerState]
    plan: Callable[[ServerState, Sequence[int], Key], dict[int, Order]]
    train: Callable[[LossOf, Order, Iterable[Any], int], Trained]
    absorb: Callable[[ServerState, Iterable[Answer]], ServerState]
    federated: bool = True
    measured: Measurement | None = None
    remembers: bool = True


def carry_out(
    training: LocalTraining,
    loss_of: LossOf,
    order: Order,
    batches: Iterable[Any],
    examples: int,
    replayed: Measurement | None = None,
) -> Trained:
    """Train as ordered and write the reply.

    Args:
        training: What the client does.
        loss_of: Makes the loss of a batch.
        order: What is asked.
        batches: The client's batches.
        examples: How many training examples it owns.
        replayed: What the slopes are measured along, if they are to be sent instead of what they led to.

    Returns:
        The reply, and the weights after training.
    """
    weights, payload, slopes, losses = training(loss_of, order, batches)
    if replayed is not None:
        payload = Slopes(slopes, {n: v for n, v in payload.values.items() if n in replayed.exact})
    reply = Reply(
        round=order.round,
        client=order.client,
        examples=examples,
        payload=payload,
        steps=len(losses),
        loss=sum(losses) / max(len(losses), 1),
    )
    return Trained(reply=reply, weights=merge(order.weights, weights))


def found(
    local: Callable[[Estimator], LocalTraining], order: Order, reply: Reply, replayed: Measurement | None
) -> Params:
    """Read what a client found, replaying its loop if it sent only slopes.

    Args:
        local: The client's training, given an estimator.
        order: What was asked.
        reply: What came back.
        replayed: What the slopes were measured along; None if replies carry everything.

    Returns:
        Its weights or its mean gradient.
    """
    if not isinstance(reply.payload, Slopes):
        return reply.payload.values
    assert replayed is not None  # the same composition wrote the reply
    estimator = recorded(reply.payload.slopes, replayed)
    return merge(replay(local(estimator), order, reply.steps), reply.payload.exact)


def compose(
    *,
    name: str,
    units: Sequence[Unit],
    estimator: Estimator | Sampled,
    server: Transform,
    client: Transform | None,
    split: Split,
    replayed: Measurement | None = None,
    recall: Recall | None = None,
) -> Algorithm:
    """Compose an algorithm around the one client loop.

    The server takes the example-weighted mean of the replies for each weight, over the clients that trained it, and
    gives ``g = w - mean(w_i)`` (or the mean gradient) to its optimizer: ``sgd(lr=1)`` is plain averaging.

    Args:
        name: What the algorithm is called in logs.
        units: The units to train, in the model's order.
        estimator: How a client gets its gradients; if along random directions, with what the server decides of them.
        server: The server's optimizer.
        client: The client's optimizer, fresh in each round; None to send the mean gradient over the client's batches
            instead of stepping.
        split: Who trains what.
        replayed: Lets clients send only what they measured; the server replays their loop.
        recall: Sends clients a hint, the running mean of what the server found; None sends none.

    Returns:
        The algorithm.

    Raises:
        ConfigError: If clients that step shall believe a hint: what they send is no gradient.

    Source:
        Reddi et al. 2021 (arXiv 2003.00295), algorithm 1, for the server's step.
    """
    if recall is not None and recall.believed and client is not None:
        raise ConfigError(
            f"the clients of {name} send weights after local steps, which say nothing of the length of a gradient, so "
            "method.control_variate = 'previous' has nothing to subtract: choose 'guided', or spry_per_iteration"
        )

    sampled = estimator if isinstance(estimator, Sampled) else Sampled.fixed(estimator)

    def local(how: Estimator) -> LocalTraining:
        return accumulate(how) if client is None else descend(how, client)

    def init(weights: Params) -> ServerState:
        own = restrict(weights, names_of(units))  # the others keep the values that clients can draw
        return ServerState(round=0, weights=own, optimizer=server.init(own))

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        dealt = split(units, clients, state.round)
        trained = {client: sampled.trained(dealt[client], state.weights) for client in clients}
        choices = sampled.choices(state.memory, dealt, state.round)
        here = key.fold("round", state.round)
        return {
            client: Order(
                round=state.round,
                client=client,
                weights=state.weights,
                trained=trained[client],
                key=here.fold("client", client),
                choices=choices[client],
                hint=recall.hint(state.memory, trained[client], len(clients), state.round)
                if recall
                else None,
            )
            for client in clients
        }

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> Trained:
        return carry_out(local(sampled.ordered(order)), loss_of, order, batches, examples, replayed)

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        mean, asked = ClientMean(), list[tuple[frozenset[str], int]]()
        for order, reply in answers:
            mean.take(reply.examples, found(local, order, reply, replayed))
            if sampled.allotment is not None:  # else nothing may grow with the number of replies
                asked.append((frozenset(order.trained), order.choices.get(COUNT, 0)))
        gradient = mean.read(state.weights) if client is None else mean.step_from(state.weights)
        updates, optimizer = server.update(gradient, state.optimizer, state.weights)
        memory = recall.take(state.memory, gradient, state.weights) if recall else state.memory
        if sampled.allotment is not None:
            memory = sampled.allotment.take(memory, units, gradient, asked)
        return ServerState(
            round=state.round + 1, weights=add(state.weights, updates), optimizer=optimizer, memory=memory
        )

    return Algorithm(
        name=name,
        units=tuple(units),
        init=init,
        plan=plan,
        train=train,
        absorb=absorb,
        measured=replayed,
        remembers=recall is not None
        or sampled.allotment is not None
        or bool(server.init({"any": torch.zeros(())})),
    )
