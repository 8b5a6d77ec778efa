"""What comes back in a round: whose reply counts, why the others' do not, and when nothing more is waited for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace

from spry.core.errors import WireError
from spry.runtime.executor import Completed, Executor, Failure
from spry.runtime.records import ClientRecord, failed_record
from spry.wire.codec import decode_reply
from spry.wire.messages import Answer, Order


@dataclass(kw_only=True)
class Arrivals:
    """Reads the replies of one round as they arrive, and gives those that count in the order in which they were asked
    for, so that sums are the same to the last bit.

    The first whole reply of a client counts. A reply that came early is kept until all before it have come, or are
    known not to come.

    Args:
        orders: What each client was asked, in order.
        slopes_exact: The algorithm's; see ``decode_reply``.
        bytes_down: What a client was sent.
        wanted: How many replies are enough, if every weight that somebody trains is in one of them.
        deadline: Seconds after which nothing more counts; None waits for everybody.
    """

    orders: Mapping[int, Order]
    slopes_exact: frozenset[str] | None
    bytes_down: Callable[[int], int]
    wanted: int
    deadline: float | None = None
    _records: dict[int, ClientRecord] = field(default_factory=dict, init=False)
    _early: dict[int, Answer] = field(default_factory=dict, init=False)
    _ignored: dict[int, int] = field(default_factory=dict, init=False)
    _begun: float = field(default_factory=time.monotonic, init=False)
    _silent: str = field(default="no reply came", init=False)

    def answers(self, executor: Executor, train: Callable[[Order], Completed]) -> Iterator[Answer]:
        """Let the clients train, and yield the answers that count."""
        waiting = deque(self.orders)
        outcomes = executor.run(list(self.orders.values()), train, self.deadline)
        for _ in self._until_enough(outcomes):
            while waiting and waiting[0] in self._records:
                yield from self._take(waiting.popleft())
        for client in waiting:
            yield from self._take(client)

    def records(self) -> tuple[ClientRecord, ...]:
        """The clients' records, in the order in which they were asked."""
        return tuple(
            replace(self._records.get(c) or self._failed(c, self._silent), ignored=self._ignored.get(c, 0))
            for c in self.orders
        )

    def _until_enough(self, outcomes: Generator[Completed | Failure]) -> Iterator[None]:
        try:
            for outcome in outcomes:
                if self._over():
                    break
                self._note(outcome)
                yield
                if self._enough():
                    self._silent = f"not waited for: {self.wanted} replies were enough (runtime.over_select)"
                    return
        finally:
            outcomes.close()
        if self._over():
            self._silent = f"no reply within {self.deadline:g} s (runtime.deadline)"

    def _note(self, outcome: Completed | Failure) -> None:
        client = outcome.order.client
        if client not in self.orders:
            return  # nobody asked it
        if client in self._records or outcome.order.round != self.orders[client].round:
            self._ignored[client] = self._ignored.get(client, 0) + 1
            return
        if isinstance(outcome, Failure):
            self._records[client] = self._failed(client, outcome.reason)
            return
        order = self.orders[client]
        try:
            self._early[client] = Answer(order, decode_reply(outcome.data, order, self.slopes_exact))
            self._records[client] = outcome.record
        except WireError as error:
            self._records[client] = replace(outcome.record, failed=str(error))

    def _take(self, client: int) -> Iterator[Answer]:
        if client in self._early:
            yield self._early.pop(client)

    def _over(self) -> bool:
        return self.deadline is not None and time.monotonic() - self._begun >= self.deadline

    def _enough(self) -> bool:
        counted = [client for client, record in self._records.items() if record.failed is None]
        if not self.wanted <= len(counted) < len(self.orders):
            return False
        trained = {name for client in counted for name in self.orders[client].trained}
        return all(trained.issuperset(order.trained) for order in self.orders.values())

    def _failed(self, client: int, reason: str) -> ClientRecord:
        return failed_record(client, reason, bytes_down=self.bytes_down(client))
