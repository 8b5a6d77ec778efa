"""Who runs the clients of a round: in this process, in others, on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from spry.runtime.records import ClientRecord
from spry.wire.messages import Order, Reply


class Visit(NamedTuple):
    """What running one client gave.

    Args:
        order: What was asked.
        reply: What came back.
        record: What it cost, for the log.
    """

    order: Order
    reply: Reply
    record: ClientRecord


class Failure(NamedTuple):
    """A client from which no reply will come.

    Args:
        order: What was asked.
        reason: Why, for the log.
    """

    order: Order
    reason: str


class Executor(Protocol):
    """Runs the clients of a round."""

    def run(self, orders: Sequence[Order], visit: Callable[[Order], Visit]) -> Iterator[Visit | Failure]:
        """Carry out orders.

        Args:
            orders: The orders of a round, one a client.
            visit: Runs one client in the process it is called in.

        Returns:
            Visits and failures in any order, as they come; a client of which nothing comes has not answered.
        """
        ...


class InProcess:
    """Runs all clients in this process, one after the other, over one shared backbone."""

    def run(self, orders: Sequence[Order], visit: Callable[[Order], Visit]) -> Iterator[Visit | Failure]:
        return map(visit, orders)
