"""The clients of rounds under secure aggregation, who are asked one phase after the other: here, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spry.core.errors import DataError
from spry.federated.algorithm import Algorithm
from spry.federated.secure.fixed_point import FixedPoint
from spry.federated.secure.party import SecureClient
from spry.runtime.arrivals import Arrivals
from spry.runtime.courier import Delivery
from spry.runtime.executor import Completed, Executor
from spry.runtime.records import ClientRecord
from spry.wire.messages import Order


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

    def point(self, clients: int) -> FixedPoint:
        """Make what rounds the numbers of so many clients."""
        return FixedPoint(bits=self.bits, largest=self.largest, clients=clients)


class Parties(Protocol):
    """The clients of one round. Each phase is told some of them something, and gives what they answer, in any order;
    of a client that answers nothing it may say why.
    """

    def advertise(self, sessions: Mapping[int, bytes]) -> Iterator[Delivery]:
        """Invite clients to sessions, and get their keys."""
        ...

    def share(self, rosters: Mapping[int, bytes]) -> Iterator[Delivery]:
        """Tell them who takes part, and get sealed shares of their secrets."""
        ...

    def mask(self, deliveries: Mapping[int, bytes], clients: Mapping[int, int]) -> Iterator[Delivery]:
        """Give them the shares of others, let them train, and get their numbers under masks.

        Args:
            clients: How many are added up at most, with each.
        """
        ...

    def reveal(self, survivors: Mapping[int, bytes]) -> Iterator[Delivery]:
        """Tell them whose numbers came, and get the shares that take masks away."""
        ...

    def records(self) -> tuple[ClientRecord, ...]:
        """The clients' records, in the order in which they were asked, but for what the protocol sent."""
        ...


@dataclass
class PartiesHere:
    """All clients in this process, each with its own state; they train before they are asked for numbers.

    Args:
        arrivals: The replies as the clients have them; who sent none falls out.
    """

    arrivals: Arrivals
    executor: Executor
    train: Callable[[Order], Completed]
    algorithm: Algorithm
    settings: SecureAggregation
    _parties: dict[int, SecureClient] = field(default_factory=dict, init=False)

    def advertise(self, sessions: Mapping[int, bytes]) -> Iterator[Delivery]:
        for client, session in sessions.items():
            self._parties[client] = SecureClient(client, session, self.settings.owners)
            yield Delivery(client, self._parties[client].advertise())

    def share(self, rosters: Mapping[int, bytes]) -> Iterator[Delivery]:
        for client, roster in rosters.items():
            yield Delivery(client, self._parties[client].share(roster))

    def mask(self, deliveries: Mapping[int, bytes], clients: Mapping[int, int]) -> Iterator[Delivery]:
        assert self.algorithm.added is not None  # the configuration asks for methods that have it
        for answer in self.arrivals.answers(self.executor, self.train):
            client = answer.order.client
            if client not in deliveries:
                continue
            try:
                numbers = self.settings.point(clients[client]).encode(self.algorithm.added(answer))
            except DataError as error:
                yield Delivery(client, b"", str(error))
                continue
            yield Delivery(client, self._parties[client].mask(deliveries[client], numbers))
        for record in self.arrivals.records():
            if record.failed:
                yield Delivery(record.client, b"", record.failed)

    def reveal(self, survivors: Mapping[int, bytes]) -> Iterator[Delivery]:
        for client, told in survivors.items():
            yield Delivery(client, self._parties[client].reveal(told))

    def records(self) -> tuple[ClientRecord, ...]:
        return self.arrivals.records()
