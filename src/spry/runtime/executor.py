"""Who runs the clients of a round: in this process, in others, on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from spry.runtime.records import ClientRecord
from spry.wire.messages import Order, Reply


class Completed(NamedTuple):
    """What running one client gave: its reply, and what it cost, for the log."""

    order: Order
    reply: Reply
    record: ClientRecord


class Failure(NamedTuple):
    """A client from which no reply will come, and why, for the log."""

    order: Order
    reason: str


class Executor(Protocol):
    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed]
    ) -> Iterator[Completed | Failure]:
        """Carry out the orders of a round, one a client, in any order, by calls of ``train`` in the process that runs
        the client.

        A client of which nothing comes has not answered.
        """
        ...


class InProcess:
    """Runs all clients in this process, one after the other, over one shared backbone."""

    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed]
    ) -> Iterator[Completed | Failure]:
        return map(train, orders)
