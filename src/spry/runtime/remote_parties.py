"""The clients of rounds under secure aggregation, elsewhere: each phase is one letter to each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from spry.core.errors import WireError
from spry.runtime.arrivals import Arrivals
from spry.runtime.courier import Delivery, Letter
from spry.runtime.executor import Completed, Failure
from spry.runtime.records import ClientRecord, failed_record
from spry.runtime.remote import Remote
from spry.runtime.report import (
    Refusal,
    SecureAssignment,
    SecureInvitation,
    decode_message,
    encode_message,
)
from spry.wire.frame import Kind, read_kind
from spry.wire.messages import Order


@dataclass
class PartiesElsewhere:
    """Asks clients over a courier; they train when they are asked for numbers, and nothing comes without masks.

    Args:
        arrivals: What the round asked; each phase waits until its deadline.
    """

    arrivals: Arrivals
    remote: Remote
    train: Callable[[Order], Completed]
    _trained: dict[int, ClientRecord] = field(default_factory=dict, init=False)
    _delivered: dict[int, int] = field(default_factory=dict, init=False)
    """Who was given the shares of others, and bytes of those that were sent once more with all weights."""

    def advertise(self, sessions: Mapping[int, bytes]) -> Iterator[Delivery]:
        return self._exchange({c: encode_message(SecureInvitation(session=s)) for c, s in sessions.items()})

    def share(self, rosters: Mapping[int, bytes]) -> Iterator[Delivery]:
        return self._exchange(rosters)

    def mask(self, deliveries: Mapping[int, bytes], clients: Mapping[int, int]) -> Iterator[Delivery]:
        def sealed(client: int, assignment: bytes) -> bytes:
            shares = deliveries[client]
            self._delivered[client] = self._delivered.get(client, -len(shares)) + len(shares)
            told = SecureAssignment(assignment=assignment, delivery=shares, clients=clients[client])
            return encode_message(told)

        orders = [self.arrivals.orders[client] for client in deliveries]
        silent = set(deliveries)
        for outcome in self.remote.run(orders, self.train, self.arrivals.deadline, wrap=sealed):
            client = outcome.order.client
            silent.discard(client)
            if isinstance(outcome, Failure):
                yield Delivery(client, b"", outcome.reason)
                continue
            self._trained[client] = outcome.record
            yield Delivery(client, outcome.data)
        yield from (Delivery(client, b"", "no reply came") for client in sorted(silent))

    def reveal(self, survivors: Mapping[int, bytes]) -> Iterator[Delivery]:
        return self._exchange(survivors)

    def records(self) -> tuple[ClientRecord, ...]:
        found = (self._trained.get(client) or self._fallen(client) for client in self.arrivals.orders)
        return tuple(
            replace(one, bytes_down=one.bytes_down + self._delivered.get(one.client, 0)) for one in found
        )

    def _fallen(self, client: int) -> ClientRecord:
        """Make the record of a client that sent no numbers; whoever knows why says so beside."""
        down = self.arrivals.bytes_down(client) if client in self._delivered else 0
        return failed_record(client, "it was not asked to train", bytes_down=down)

    def _exchange(self, messages: Mapping[int, bytes]) -> Iterator[Delivery]:
        if not messages:
            return
        seconds = self.remote.within(self.arrivals.deadline)
        letters = [Letter(self.remote.address(client), client, data) for client, data in messages.items()]
        silent = set(messages)
        for delivery in self.remote.courier.exchange(letters, seconds):
            silent.discard(delivery.client)
            yield _read(delivery)
        yield from (Delivery(client, b"", f"no answer within {seconds:g} s") for client in sorted(silent))


def _read(delivery: Delivery) -> Delivery:
    """Tell a refusal as what it is; all else is for the protocol to read."""
    if delivery.failed is not None:
        return delivery
    try:
        refused = decode_message(delivery.data) if read_kind(delivery.data) is Kind.REFUSAL else None
    except WireError as error:
        return Delivery(delivery.client, b"", str(error))
    return Delivery(delivery.client, b"", refused.reason) if isinstance(refused, Refusal) else delivery
