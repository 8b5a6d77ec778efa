"""An algorithm is four pure functions; ``compose`` makes them from an estimator, two optimizers and a split.

They know no file, clock, transport or model library, so every runtime runs the same four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from spry.core.keys import Key
from spry.core.params import Params, add, merge, restrict
from spry.core.units import Unit, names_of
from spry.estimators.estimate import Estimator
from spry.estimators.projected import SlopeSpec, from_slopes
from spry.federated.client import (
    ClientResult,
    LocalTraining,
    LossOf,
    accumulate,
    descend,
    replay,
    run_client,
)
from spry.federated.robust import PLAIN_MEAN, Aggregation
from spry.federated.split import Split
from spry.federated.transforms import UpdateTransform, transform_gradient
from spry.optim.transform import OptState, Transform
from spry.wire.messages import Answer, Gradient, Order, Reply, Slopes, Weights


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the server carries from round to round.

    Args:
        round: Rounds absorbed so far.
        memory: Whatever else a method remembers, slot -> name -> tensor; under a weight's name a tensor of its shape.
    """

    round: int
    weights: Params
    optimizer: OptState
    memory: Mapping[str, Params] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A federated algorithm.

    Args:
        name: What it is called in logs.
        units: The units it trains, in the model's order.
        init: ``(weights) -> state``: makes the server's state.
        plan: ``(state, clients, key) -> {client: order}``: writes the orders of the next round.
        train: ``(loss_of, order, batches, examples) -> result``: carries out one order on a client's batches.
        absorb: ``(state, answers) -> state``: takes the round's replies, in any order, one at a time, and steps.
        federated: Whether anything travels; if not, no bytes are counted.
        slopes_exact: If replies are slopes, the names of weights that are sent beside them; else None.
        guesses: Whether orders carry a guess of the gradient.
        remembers: Whether the server carries more than weights from round to round, such as moments.
        tells_loss: Whether replies tell a loss; if not, theirs is 0.
        composition: What ``compose`` made it of, if it did.
        aggregation: How the server unites replies.
        added: ``answer -> values``: what a reply adds to the sum that is all the server needs; None if it needs more.
    """

    name: str
    units: tuple[Unit, ...]
    init: Callable[[Params], ServerState]
    plan: Callable[[ServerState, Sequence[int], Key], dict[int, Order]]
    train: Callable[[LossOf, Order, Iterable[Any], int], ClientResult]
    absorb: Callable[[ServerState, Iterable[Answer]], ServerState]
    federated: bool = True
    slopes_exact: frozenset[str] | None = None
    guesses: bool = False
    remembers: bool = True
    tells_loss: bool = True
    composition: Composition | None = None
    aggregation: Aggregation = PLAIN_MEAN
    added: Callable[[Answer], Params] | None = None

    def untrained(self, weights: Params) -> Params:
        """Choose the weights that no client trains."""
        trained = set(names_of(self.units))
        return {name: weight for name, weight in weights.items() if name not in trained}


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """How a method's slopes came about, so that the server can replay the clients that send only them.

    Args:
        num_directions: K, slopes per step.
        max_steps: Most local steps of a client; None leaves it to the codec.
    """

    spec: SlopeSpec
    num_directions: int = 1
    max_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Composition:
    """The parts of a composed algorithm.

    Args:
        local: A client's loop around an estimator.
        client_steps: Whether clients step, and so send weights, not a gradient.
        replayed: How slopes came about, where replies are slopes.
    """

    local: Callable[[Estimator], LocalTraining]
    client_steps: bool
    server: Transform
    split: Split
    replayed: Replayed | None
    transforms: tuple[UpdateTransform, ...]


def decode_update(
    local: Callable[[Estimator], LocalTraining], order: Order, reply: Reply, spec: SlopeSpec | None
) -> Params:
    """Read a client's weights or mean gradient; where it sent only slopes, along ``spec``, replay its loop."""
    if not isinstance(reply.payload, Slopes):
        return reply.payload.values
    assert spec is not None  # the same composition wrote the reply
    estimator = from_slopes(reply.payload.slopes, spec)
    return merge(replay(local(estimator), order, reply.steps), reply.payload.exact)


def compose(
    *,
    name: str,
    units: Sequence[Unit],
    estimator: Estimator,
    server: Transform,
    client: Transform | None,
    split: Split,
    replayed: Replayed | None = None,
    transforms: Sequence[UpdateTransform] = (),
    aggregation: Aggregation = PLAIN_MEAN,
) -> Algorithm:
    """Compose an algorithm around the one client loop.

    The server takes the example-weighted mean of the replies for each weight, over the clients that trained it, unless
    ``aggregation`` unites them otherwise, and gives ``g = w - mean(w_i)`` (or the mean gradient) to its optimizer:
    ``sgd(lr=1)`` is plain averaging.

    Args:
        name: What the algorithm is called in logs.
        units: The units to train, in the model's order.
        estimator: How a client gets its gradients.
        server: The server's optimizer.
        client: The client's optimizer, fresh in each round; None to send the mean gradient over the client's batches
            instead of stepping.
        split: Who trains what.
        replayed: Lets clients send only slopes; the server replays their loop. None sends what slopes led to.
        transforms: Changes to updates on their way.
        aggregation: How the server unites replies.

    Returns:
        The algorithm.

    Source:
        Reddi et al. 2021 (arXiv 2003.00295), algorithm 1, for the server's step.
    """
    spec = replayed.spec if replayed else None
    slopes_exact = spec.exact if spec else None

    def local(how: Estimator) -> LocalTraining:
        return accumulate(how) if client is None else descend(how, client)

    def init(weights: Params) -> ServerState:
        own = restrict(weights, names_of(units))  # the others keep the values that clients can draw
        return ServerState(round=0, weights=own, optimizer=server.init(own))

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        dealt = split(units, clients, state.round)
        here = key.fold("round", state.round)
        return {
            one: Order(
                round=state.round,
                client=one,
                weights=state.weights,
                trained=names_of(dealt[one]),
                key=here.fold("client", one),
                num_directions=replayed.num_directions if replayed else 0,
                max_steps=replayed.max_steps if replayed else None,
            )
            for one in clients
        }

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
        return run_client(
            local(estimator),
            loss_of,
            order,
            batches,
            examples,
            slopes_exact=slopes_exact,
            transforms=transforms,
        )

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        united = aggregation.begin()
        for order, reply in answers:
            reply = aggregation.shortened(order, reply, Gradient if client is None else Weights)
            united.take(reply.examples, decode_update(local, order, reply, spec))
        found = united.read(state.weights) if client is None else united.pseudo_gradient(state.weights)
        gradient = transform_gradient(transforms, found, united.cohort(state.round))
        updates, optimizer = server.update(gradient, state.optimizer, state.weights)
        return ServerState(
            round=state.round + 1,
            weights=add(state.weights, updates),
            optimizer=optimizer,
            memory=state.memory,
        )

    return Algorithm(
        name=name,
        units=tuple(units),
        init=init,
        plan=plan,
        train=train,
        absorb=absorb,
        slopes_exact=slopes_exact,
        remembers=bool(server.init({"any": torch.zeros(())})),
        composition=Composition(
            local=local,
            client_steps=client is not None,
            server=server,
            split=split,
            replayed=replayed,
            transforms=tuple(transforms),
        ),
        aggregation=aggregation,
    )
