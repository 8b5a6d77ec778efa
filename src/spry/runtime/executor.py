"""Who runs the clients of a round: in this process, in others, on other machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Protocol

from spry.runtime.records import ClientRecord
from spry.wire.messages import Order


class Completed(NamedTuple):
    """What running one client gave.

    Args:
        order: What it answers.
        data: The reply as it travels, which nobody has checked yet.
        record: What it cost, for the log.
    """

    order: Order
    data: bytes
    record: ClientRecord


class Failure(NamedTuple):
    """A client from which no reply will come, and why, for the log."""

    order: Order
    reason: str


class Executor(Protocol):
    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed], deadline: float | None = None
    ) -> Generator[Completed | Failure]:
        """Carry out the orders of a round, one a client, in any order, by calls of ``train`` in the process that runs
        the client.

        A client of which nothing comes has not answered. The generator is closed where the round needs no more
        replies.

        Args:
            deadline: Seconds from now after which it ends, whoever has not answered; None waits for everybody.
        """
        ...


class InProcess:
    """Runs all clients in this process, one after the other, over one shared backbone.

    Nothing stops a client that has begun: the deadline keeps others from beginning.
    """

    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed], deadline: float | None = None
    ) -> Generator[Completed | Failure]:
        begun = time.monotonic()
        for order in orders:
            if deadline is not None and time.monotonic() - begun >= deadline:
                return
            yield train(order)
