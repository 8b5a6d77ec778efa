"""Rounds in which the server uses nothing of its clients' replies but their sum, which is what privacy is kept by.

Every client counts once, however many examples it owns. Replies of slopes are measured along directions that all
clients of a round share, so that their sum says as much as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params, add, restrict
from spry.core.units import Unit, names_of
from spry.estimators.projected import from_slopes
from spry.federated.algorithm import Algorithm, Composition, ServerState
from spry.federated.client import ClientResult, LossOf, replay
from spry.federated.transforms import Cohort, transform_gradient
from spry.wire.messages import Answer, Gradient, Order, Reply, Slopes, Weights

SLOPES = "slopes of "
"""What names in a sum begin with that are slopes, along directions of the weights that follow, with spaces between."""


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """Who may be asked: all clients there are, and the chance of each, so that nothing else depends on who is."""

    clients: tuple[int, ...]
    rate: float


@dataclass(frozen=True, kw_only=True)
class Summing:
    """How replies are summed.

    Args:
        key: Where the directions of a round come from, if clients send slopes.
        enrolled: Lets what a client trains be dealt among all that are enrolled, and a weight's sum be divided by the
            number of its owners to be expected; None deals among those asked, and divides by how many answered.
        least: Fewest clients, of those that it is dealt among, that train a weight; or all of them, if they are fewer.
        shorten: Bounds what one reply adds, whatever its client did.
        tells_loss: Whether clients tell their loss, which is no part of the sum; if not, they send 0.
        frozen: Weights that nobody trains.
    """

    key: Key
    enrolled: Enrolment | None = None
    least: int = 1
    shorten: Callable[[Params], Params] = dict
    tells_loss: bool = True
    frozen: frozenset[str] = frozenset()

    def directions(self, round: int) -> Key:
        return self.key.fold("round", round, "shared")

    def roles(self, clients: Sequence[int]) -> dict[int, int]:
        """Which client of a split each of some clients is dealt the part of: its own, or one that ``least`` share."""
        if self.least == 1:
            return {client: client for client in clients}
        groups = max(1, len(clients) // self.least)
        return {client: place % groups for place, client in enumerate(clients)}


@dataclass(frozen=True, kw_only=True)
class SumReply(Reply):
    """What stands for several clients' replies where only the sum of their contributions is known.

    Args:
        clients: Whose sum it is, one more than replies without numbers that come beside it.
    """

    clients: int


@dataclass
class ReplySum:
    """A sum of contributions by name, in float64, and of how many clients each name's is."""

    values: dict[str, Tensor] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    clients: int = 0

    def take(self, values: Params, owners: int = 1) -> None:
        self.clients += 1
        for name, value in values.items():
            known = self.values.get(name)
            self.values[name] = value.double() if known is None else known + value.double()
            self.owners[name] = self.owners.get(name, 0) + owners


def contribution(answer: Answer, exact: frozenset[str] = frozenset()) -> Params:
    """What a reply adds to a sum: how far its client went, its gradient, or its slopes and what is exact beside them.

    Args:
        exact: Names of weights that are not measured along directions.
    """
    order, payload = answer.order, answer.reply.payload
    match payload:
        case Weights(values):
            return {name: order.weights[name].double() - value.double() for name, value in values.items()}
        case Gradient(values):
            return values
        case Slopes(slopes, beside):
            name = slopes_name(order.trained, exact)
            return {**({name: slopes} if name else {}), **beside}


def slopes_name(trained: Iterable[str], exact: frozenset[str]) -> str:
    """Name the slopes of a client that trains some weights; nothing if it measures none."""
    moved = [name for name in trained if name not in exact]
    return SLOPES + " ".join(moved) if moved else ""


def summed(algorithm: Algorithm, summing: Summing) -> Algorithm:
    """Let a composed algorithm use the sum of its replies alone.

    Transforms' server halves are given the sum, not the mean.

    Raises:
        ConfigError: If clients send slopes of steps that they take, whose sum leads nowhere, or of different numbers.
    """
    parts = algorithm.composition
    assert parts is not None  # the table of methods says which are composed
    rounds = _Rounds(summing, parts, algorithm.units)

    def added(answer: Answer) -> Params:
        return summing.shorten(contribution(answer, rounds.exact))

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        roles = summing.roles(summing.enrolled.clients if summing.enrolled else clients)
        orders = algorithm.plan(state, [*dict.fromkeys(roles.values())], key)
        here, shared = key.fold("round", state.round), summing.directions(state.round)
        return {
            client: replace(
                orders[roles[client]],
                client=client,
                key=shared if parts.replayed else here.fold("client", client),
            )
            for client in clients
        }

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
        result = algorithm.train(loss_of, order, batches, 1)
        told = result.reply.loss if summing.tells_loss else 0.0
        return replace(result, reply=replace(result.reply, loss=told))

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        found = ReplySum()
        for answer in answers:
            if isinstance(answer.reply, SumReply):
                found.take(contribution(answer), answer.reply.clients)
            else:
                found.take(added(answer))
        gradient = rounds.gradient(found, state)
        updates, optimizer = parts.server.update(gradient, state.optimizer, state.weights)
        return replace(state, round=state.round + 1, weights=add(state.weights, updates), optimizer=optimizer)

    return replace(
        algorithm, plan=plan, train=train, absorb=absorb, added=added, tells_loss=summing.tells_loss
    )


class _Rounds:
    """From the sum of a round to the gradient that the server's optimizer takes."""

    def __init__(self, summing: Summing, parts: Composition, units: Sequence[Unit]) -> None:
        self._summing, self._parts, self._units = summing, parts, units
        replayed = parts.replayed
        self.exact = replayed.spec.exact if replayed else frozenset[str]()
        if replayed and parts.client_steps:
            raise ConfigError(
                "method.send is 'slopes' where clients step, and a sum of such slopes says nothing of a sum of "
                "weights. Set method.send = 'weights', or use spry_per_iteration"
            )
        if replayed and replayed.max_steps is None:
            raise ConfigError(
                "client.steps is unset, and slopes are summed over clients that measure equally many. Set "
                "client.steps, such as client.steps=1"
            )

    def gradient(self, found: ReplySum, state: ServerState) -> Params:
        sums = self._released(found, state)
        cohort = Cohort(state.round, found.clients, found.clients)
        sums = transform_gradient(self._parts.transforms, sums, cohort)
        owners = self._owners(found, state.round)
        return {
            name: (value.double() / owners[name]).to(state.weights[name])
            for name, value in self._expanded(sums, state).items()
        }

    def _released(self, found: ReplySum, state: ServerState) -> Params:
        """Give every name, zero where nobody answered: which are there tells nothing of who was asked."""
        if self._summing.enrolled is None:
            return found.values
        replayed, names = self._parts.replayed, dict[str, Tensor]()
        for trained in dict.fromkeys(self._dealt(state.round)):
            slopes = slopes_name(trained, self.exact) if replayed else ""
            if replayed and slopes:
                names[slopes] = torch.zeros(replayed.max_steps or 0, replayed.num_directions).double()
            dense = [name for name in trained if not replayed or name in self.exact]
            names |= {name: torch.zeros_like(state.weights[name], dtype=torch.float64) for name in dense}
        return {name: found.values.get(name, zero) for name, zero in names.items()}

    def _owners(self, found: ReplySum, round: int) -> Mapping[str, float]:
        owners: dict[str, float] = {}
        if self._summing.enrolled is None:
            for name, count in found.owners.items():
                for one in _weights_of(name):
                    owners[one] = owners.get(one, 0) + count
            return owners
        for trained in self._dealt(round):
            for name in trained:
                owners[name] = owners.get(name, 0) + self._summing.enrolled.rate
        return owners

    def _dealt(self, round: int) -> list[tuple[str, ...]]:
        """The weights that each enrolled client would train."""
        assert self._summing.enrolled is not None
        roles = self._summing.roles(self._summing.enrolled.clients)
        dealt = self._parts.split(self._units, [*dict.fromkeys(roles.values())], round)
        return [
            tuple(name for name in names_of(dealt[role]) if name not in self._summing.frozen)
            for role in roles.values()
        ]

    def _expanded(self, sums: Params, state: ServerState) -> Params:
        """Bring a sum under the names of weights, slopes along the directions of the round."""
        found = {name: value for name, value in sums.items() if not name.startswith(SLOPES)}
        for name, slopes in sums.items():
            if not name.startswith(SLOPES):
                continue
            assert self._parts.replayed is not None  # or nobody measured slopes
            order = Order(
                round=state.round,
                client=0,
                weights=restrict(state.weights, _weights_of(name)),
                trained=_weights_of(name),
                key=self._summing.directions(state.round),
            )
            training = self._parts.local(from_slopes(slopes, self._parts.replayed.spec))
            for weight, value in replay(training, order, len(slopes)).items():
                found[weight] = found[weight] + value if weight in found else value
        return found


def _weights_of(name: str) -> tuple[str, ...]:
    return tuple(name.removeprefix(SLOPES).split(" ")) if name.startswith(SLOPES) else (name,)
