"""Rounds under secure aggregation in one process: each party keeps its own state, and only bytes go between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spry.core.errors import DataError, PrivacyError
from spry.core.params import Params
from spry.federated.algorithm import Algorithm
from spry.federated.secure.fixed_point import FixedPoint
from spry.federated.secure.party import SecureClient
from spry.federated.secure.server import SecureServer
from spry.federated.summing import SumReply
from spry.runtime.arrivals import Arrivals
from spry.runtime.executor import Completed, Executor
from spry.runtime.records import ClientRecord
from spry.wire.messages import Answer, Gradient, Order


@dataclass(frozen=True, kw_only=True)
class SecureAggregation:
    """What sums are taken under.

    Args:
        owners: Fewest clients, >= 3, whose sum the server may know.
        bits: Of a number, 32 or 64.
        largest: The largest number that can be added, > 0.
    """

    owners: int = 3
    bits: int = 32
    largest: float = 16.0


@dataclass(kw_only=True)
class SecureRound:
    """What comes back in a round of which the server learns only sums: of the clients that train the same weights.

    A client whose training broke down has shared its secrets already, and is one of those that fall out.

    Args:
        arrivals: The replies as the clients have them; who sent none falls out.
    """

    arrivals: Arrivals
    algorithm: Algorithm
    settings: SecureAggregation
    _bytes_up: dict[int, int] = field(default_factory=dict, init=False)
    _bytes_down: dict[int, int] = field(default_factory=dict, init=False)
    _failed: dict[int, str] = field(default_factory=dict, init=False)

    def answers(self, executor: Executor, train: Callable[[Order], Completed]) -> Iterator[Answer]:
        """Let the clients train, and yield the sum of a group in place of its first answer, nothing for the others."""
        there = {answer.order.client: answer for answer in self.arrivals.answers(executor, train)}
        for place, group in enumerate(self._groups()):
            session = f"round {self.arrivals.orders[group[0]].round}, group {place}".encode()
            try:
                values, clients = self._sum(session, group, there)
            except PrivacyError as error:
                self._failed = {client: str(error) for client in group if client in there} | self._failed
                continue
            for number, client in enumerate(clients):
                yield _stand_in(there[client], values if number == 0 else {}, len(clients))

    def records(self) -> tuple[ClientRecord, ...]:
        """The clients' records, with what the protocol sent in place of replies, and whose numbers are in no sum."""
        return tuple(
            replace(
                record,
                bytes_up=self._bytes_up.get(record.client, 0),
                bytes_down=record.bytes_down + self._bytes_down.get(record.client, 0),
                failed=record.failed or self._failed.get(record.client),
            )
            for record in self.arrivals.records()
        )

    def _groups(self) -> list[list[int]]:
        groups: dict[tuple[str, ...], list[int]] = {}
        for client, order in self.arrivals.orders.items():
            groups.setdefault(order.trained, []).append(client)
        return list(groups.values())

    def _sum(
        self, session: bytes, group: Sequence[int], there: Mapping[int, Answer]
    ) -> tuple[Params, list[int]]:
        assert self.algorithm.added is not None  # the configuration asks for methods that have it
        point = FixedPoint(bits=self.settings.bits, largest=self.settings.largest, clients=len(group))
        contributions = {client: self.algorithm.added(there[client]) for client in group if client in there}
        shapes = {n: tuple(v.shape) for one in contributions.values() for n, v in one.items()}
        parties = {client: SecureClient(client, session, self.settings.owners) for client in group}
        length = sum(v.numel() for v in next(iter(contributions.values()), {}).values())
        server = SecureServer(session, frozenset(group), length, point.dtype, self.settings.owners)
        for client, party in parties.items():
            server.take_keys(self._up(client, party.advertise()))
        roster = server.roster()
        for client, party in parties.items():
            server.take_shares(self._up(client, party.share(self._down(client, roster))))
        for client, values in contributions.items():
            delivery = self._down(client, server.delivery(client))
            try:
                numbers = point.encode(values)
            except DataError as error:
                self._failed[client] = str(error)
                continue
            server.take_masked(self._up(client, parties[client].mask(delivery, numbers)))
        survivors = server.survivors()
        for client in server.masked:
            server.take_secrets(self._up(client, parties[client].reveal(self._down(client, survivors))))
        return point.decode(server.sum(), shapes), list(server.masked)

    def _up(self, client: int, data: bytes) -> bytes:
        self._bytes_up[client] = self._bytes_up.get(client, 0) + len(data)
        return data

    def _down(self, client: int, data: bytes) -> bytes:
        self._bytes_down[client] = self._bytes_down.get(client, 0) + len(data)
        return data


def _stand_in(answer: Answer, values: Params, clients: int) -> Answer:
    order, reply = answer
    told = {"round": reply.round, "client": reply.client, "examples": reply.examples, "loss": reply.loss}
    kept = SumReply(**told, payload=Gradient(values), steps=reply.steps, clients=clients)
    return Answer(order, kept if values else replace(reply, payload=Gradient({})))
