"""The server's side of clients elsewhere: an executor, and who asks them for sums, over whatever carries the bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from spry.core.errors import WireError
from spry.core.params import Params
from spry.federated.algorithm import Algorithm
from spry.federated.closed_head.codec import encode_head
from spry.runtime.client_runner import ClientRunner
from spry.runtime.counts import decode_counts
from spry.runtime.courier import Courier, Delivery, Letter
from spry.runtime.executor import Completed, Failure
from spry.runtime.head_sums import Summed
from spry.runtime.records import ClientRecord
from spry.runtime.report import (
    Assignment,
    HeadReport,
    Present,
    Refusal,
    TrainingReport,
    decode_message,
    encode_message,
)
from spry.tasks.task import Metrics, Task
from spry.wire.codec import encode_order
from spry.wire.messages import Order

M = TypeVar("M", TrainingReport, HeadReport, Present)


class Refused(Exception):  # ruff: ignore[error-suffix-on-exception-name]  # a client's answer, no error of ours
    """A client says that it cannot do what it was asked; ``lost`` if an order with all weights would help."""

    def __init__(self, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


def read_answer(delivery: Delivery, wanted: type[M]) -> M:
    """Read the answer of a client; Refused or WireError if it is no answer to what was asked."""
    if delivery.failed is not None:
        raise Refused(delivery.failed)
    answer = decode_message(delivery.data)
    if isinstance(answer, Refusal):
        raise Refused(answer.reason, lost=answer.lost)
    if not isinstance(answer, wanted):
        raise WireError(f"answer is a {type(answer).__name__}; expected was a {wanted.__name__}")
    return answer


@dataclass
class Remote:
    """Runs clients elsewhere: one message a round and client, and one more to a client that has lost what it knew.

    Args:
        address: ``client -> node``: which node plays a client.
        seconds: How long an answer is waited for, where a round has no deadline.
        start: The head that training began with, which clients are told with their first order; None if they need not
            be, as all weights come with it.
    """

    courier: Courier
    address: Callable[[int], int]
    seconds: float
    start: Params | None = None
    _told: set[int] = field(default_factory=set, init=False)

    def run(
        self,
        orders: Sequence[Order],
        train: Callable[[Order], Completed],
        deadline: float | None = None,
        *,
        wrap: Callable[[int, bytes], bytes] = lambda client, assignment: assignment,
    ) -> Generator[Completed | Failure]:
        """See ``Executor``.

        Args:
            wrap: ``(client, assignment) -> message``: what an assignment travels in.
        """
        round = _Round(cast(ClientRunner, train), {order.client: order for order in orders}, wrap)
        seconds = self.within(deadline)
        sent = {order.client: round.runner.sent(order.client) for order in orders}
        ends = time.monotonic() + seconds
        yield from self._deliver(round, sent, seconds)
        if round.lost:  # all weights, at once: the round does not wait for another
            whole = {client: encode_order(round.orders[client]) for client in round.lost}
            yield from self._deliver(round, whole, max(0.0, ends - time.monotonic()), again=True)

    def _deliver(
        self, round: _Round, messages: Mapping[int, bytes], seconds: float, *, again: bool = False
    ) -> Generator[Completed | Failure]:
        if not messages:  # where chance decides who is asked, it may be nobody
            return
        letters = [
            Letter(self.address(c), c, round.assignment(c, m, self._head(c))) for c, m in messages.items()
        ]
        for delivery in self.courier.exchange(letters, seconds):
            client = delivery.client
            try:
                report = read_answer(delivery, TrainingReport)
                outcome = round.completed(client, report, len(messages[client]))
                self._told.add(client)
            except WireError as error:
                outcome = Failure(round.orders[client], str(error))
            except Refused as error:
                if error.lost and not again:
                    round.lost.append(client)
                    continue
                outcome = Failure(round.orders[client], str(error))
            yield outcome

    def within(self, deadline: float | None) -> float:
        """Say how many seconds an answer is waited for."""
        return self.seconds if deadline is None else min(deadline, self.seconds)

    def _head(self, client: int) -> bytes:
        return b"" if self.start is None or client in self._told else encode_head(self.start)

    def ask(self, questions: Sequence[tuple[int, bytes]]) -> Iterator[Summed]:
        """Put questions about the head to clients, all at once."""
        letters = [Letter(self.address(client), client, data) for client, data in questions]
        came = {found.client: found for found in self.courier.exchange(letters, self.seconds)}
        for client, _ in questions:
            yield _summed(came.get(client, Delivery(client, b"", f"no answer within {self.seconds:g} s")))


def _summed(delivery: Delivery) -> Summed:
    try:
        report = read_answer(delivery, HeadReport)
    except (Refused, WireError) as error:
        return Summed(delivery.client, b"", failed=str(error))
    return Summed(
        delivery.client,
        report.sums,
        seconds=report.seconds,
        cpu_seconds=report.cpu_seconds,
        operations=report.operations,
    )


@dataclass
class _Round:
    """One round as clients elsewhere see it; in ``lost`` those that could not read their order."""

    runner: ClientRunner
    orders: Mapping[int, Order]
    wrap: Callable[[int, bytes], bytes]
    lost: list[int] = field(default_factory=list)

    def assignment(self, client: int, order: bytes, start: bytes) -> bytes:
        runner = self.runner
        assignment = Assignment(
            order=order,
            start=start,
            evaluates=runner.evaluates,
            personalized=runner.personalized,
            measures=runner.measures,
        )
        return self.wrap(client, encode_message(assignment))

    def completed(self, client: int, report: TrainingReport, bytes_down: int) -> Completed:
        order, algorithm = self.orders[client], self.runner.algorithm
        lost = len(self.runner.sent(client)) if client in self.lost else 0
        generalized, personalized = (
            decode_counts(sums, _nothing(self.runner.task), _outputs(self.runner.task))
            for sums in (report.generalized, report.personalized)
        )
        record = ClientRecord(
            client=client,
            units=_units(algorithm, order),
            examples=report.examples,
            steps=report.steps,
            loss=report.loss,
            bytes_up=len(report.reply) if algorithm.federated else 0,
            bytes_down=bytes_down + lost if algorithm.federated else 0,
            seconds=report.seconds,
            cpu_seconds=report.cpu_seconds,
            operations=report.operations,
            slowed=report.slowed,
            peak_bytes=report.peak_bytes,
            generalized=generalized,
            personalized=personalized,
            own=report.own,
        )
        return Completed(order, report.reply, record)


def _units(algorithm: Algorithm, order: Order) -> tuple[str, ...]:
    trained = set(order.trained)
    return tuple(unit.name for unit in algorithm.units if not trained.isdisjoint(unit.names))


def _nothing(task: Task) -> Metrics:
    return task.evaluate({}, ())


def _outputs(task: Task) -> int:
    """How many outputs a task's head has; 0 where it has no model of its own."""
    return len(getattr(getattr(task, "backbone", None), "label_names", ()))
