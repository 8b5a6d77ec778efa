"""Rounds under secure aggregation: the server's side of all groups of clients, one phase after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from spry.core.errors import PrivacyError, WireError
from spry.core.params import restrict
from spry.federated.algorithm import Algorithm
from spry.federated.secure.fixed_point import FixedPoint
from spry.federated.secure.server import SecureServer
from spry.federated.summing import SumReply
from spry.runtime.arrivals import Arrivals
from spry.runtime.courier import Delivery
from spry.runtime.executor import Completed, Executor
from spry.runtime.parties import Parties, PartiesHere, SecureAggregation
from spry.runtime.records import ClientRecord
from spry.runtime.remote import Remote
from spry.runtime.remote_parties import PartiesElsewhere
from spry.wire.messages import Answer, Gradient, Order, Reply, Slopes, Weights


@dataclass
class _Group:
    """Clients that train the same weights, of which the server learns the sum; ``failed`` says why it does not."""

    orders: Mapping[int, Order]
    server: SecureServer
    point: FixedPoint
    shapes: Mapping[str, tuple[int, ...]]
    failed: str | None = None


@dataclass(kw_only=True)
class SecureRound:
    """What comes back in a round of which the server learns only sums: of the clients that train the same weights.

    A client of which nothing comes in one phase is not asked in the next; the others go on while they are enough. One
    whose training broke down has shared its secrets already, and is one of those that fall out.

    Args:
        arrivals: What the round asked, and how long it waits.
    """

    arrivals: Arrivals
    algorithm: Algorithm
    settings: SecureAggregation
    _groups: list[_Group] = field(default_factory=list, init=False)
    _bytes_up: dict[int, int] = field(default_factory=dict, init=False)
    _bytes_down: dict[int, int] = field(default_factory=dict, init=False)
    _failed: dict[int, str] = field(default_factory=dict, init=False)
    _parties: Parties = field(init=False)

    def answers(self, executor: Executor, train: Callable[[Order], Completed]) -> Iterator[Answer]:
        """Let the clients train, and yield the sum of a group in place of its first answer, nothing for the others."""
        if isinstance(executor, Remote):
            self._parties = PartiesElsewhere(self.arrivals, executor, train)
        else:
            self._parties = PartiesHere(self.arrivals, executor, train, self.algorithm, self.settings)
        dealt: dict[tuple[str, ...], dict[int, Order]] = {}
        for client, order in self.arrivals.orders.items():
            dealt.setdefault(order.trained, {})[client] = order
        self._groups = [self._group(place, orders) for place, orders in enumerate(dealt.values())]
        self._play(self._parties)
        for group in self._groups:
            yield from self._sum(group)

    def records(self) -> tuple[ClientRecord, ...]:
        """The clients' records, with what the protocol sent in place of replies, and whose numbers are in no sum."""
        without = {client: group.failed for group in self._groups for client in group.orders}
        return tuple(
            replace(
                record,
                bytes_up=self._bytes_up.get(record.client, 0),
                bytes_down=record.bytes_down + self._bytes_down.get(record.client, 0),
                failed=self._failed.get(record.client) or without[record.client] or record.failed,
            )
            for record in self._parties.records()
        )

    def _group(self, place: int, orders: Mapping[int, Order]) -> _Group:
        first = next(iter(orders.values()))
        shapes, point = _shapes(self.algorithm, first), self.settings.point(len(orders))
        length = sum(torch.Size(shape).numel() for shape in shapes.values())
        session = f"round {first.round}, group {place}".encode()
        server = SecureServer(session, frozenset(orders), length, point.dtype, self.settings.owners)
        return _Group(orders, server, point, shapes)

    def _play(self, parties: Parties) -> None:
        """Carry out the protocol: each phase of all groups before the next."""
        sessions = {client: group.server.session for group in self._groups for client in group.orders}
        sizes = {client: len(group.orders) for group in self._groups for client in group.orders}
        keys = parties.advertise(sessions)
        self._failed |= self._take(SecureServer.take_keys, keys)
        shares = parties.share(self._tell(lambda server: dict.fromkeys(server.keys, server.roster())))
        self._failed |= self._take(SecureServer.take_shares, shares)
        deliveries = self._tell(lambda server: {client: server.delivery(client) for client in server.sealed})
        self._failed |= self._take(SecureServer.take_masked, parties.mask(deliveries, sizes))
        secrets = parties.reveal(self._tell(lambda server: dict.fromkeys(server.masked, server.survivors())))
        self._take(SecureServer.take_secrets, secrets)  # who gives none has sent its numbers, and counts

    def _tell(self, write: Callable[[SecureServer], Mapping[int, bytes]]) -> dict[int, bytes]:
        """Write what clients are told in a phase; a group that is too small for it goes no further."""
        told: dict[int, bytes] = {}
        for group in self._groups:
            try:
                told |= {} if group.failed else write(group.server)
            except PrivacyError as error:
                group.failed = str(error)
        for client, data in told.items():
            self._bytes_down[client] = self._bytes_down.get(client, 0) + len(data)
        return told

    def _take(
        self, take: Callable[[SecureServer, bytes, int], None], answers: Iterable[Delivery]
    ) -> dict[int, str]:
        """Let each group's server take what came of its clients; give why nothing usable came of some."""
        server_of = {client: group.server for group in self._groups for client in group.orders}
        failed: dict[int, str] = {}
        for client, data, why in answers:
            self._bytes_up[client] = self._bytes_up.get(client, 0) + len(data)
            try:
                if why is None:
                    take(server_of[client], data, client)
            except WireError as error:
                why = str(error)
            if why is not None:
                failed[client] = why
        return failed

    def _sum(self, group: _Group) -> Iterator[Answer]:
        if group.failed:
            return
        try:
            values = group.point.decode(group.server.sum(), group.shapes)
        except (PrivacyError, WireError) as error:  # clients may have lied about their keys, too
            group.failed = str(error)
            return
        clients = [client for client in group.orders if client in group.server.masked]
        for place, client in enumerate(clients):
            yield _stand_in(group.orders[client], {} if place else values, len(clients))


def _shapes(algorithm: Algorithm, order: Order) -> dict[str, tuple[int, ...]]:
    """Name what a client adds, by its order alone, as it would if it had found nothing."""
    assert (
        algorithm.added is not None and algorithm.composition is not None
    )  # the configuration asks for both
    values, exact = restrict(order.weights, order.trained), algorithm.slopes_exact
    if exact is None:
        payload = Weights(values) if algorithm.composition.client_steps else Gradient(values)
    else:
        slopes = torch.zeros(order.max_steps or 0, order.num_directions)
        payload = Slopes(slopes, {name: value for name, value in values.items() if name in exact})
    nothing = Reply(round=order.round, client=order.client, examples=1, payload=payload, steps=0, loss=0.0)
    return {name: tuple(value.shape) for name, value in algorithm.added(Answer(order, nothing)).items()}


def _stand_in(order: Order, values: Mapping[str, torch.Tensor], clients: int) -> Answer:
    told = {"round": order.round, "client": order.client, "examples": 1, "loss": 0.0, "steps": 0}
    payload = Gradient(values)
    reply = SumReply(**told, payload=payload, clients=clients) if values else Reply(**told, payload=payload)
    return Answer(order, reply)
