"""Running one client: train as ordered, look at the models before and after, and note what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params
from spry.data.federation import Federation
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.client import ClientResult
from spry.federated.ema import delivered
from spry.measure.meter import peak_of
from spry.runtime.executor import Completed
from spry.runtime.records import ClientRecord
from spry.runtime.work import Work
from spry.tasks.task import Metrics, Task, sums
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Order


@dataclass
class ClientRunner:
    """Runs the clients of one round over one task.

    Args:
        sent: What each client is sent, for the ledger.
        evaluates: Whether the clients' held-out parts are evaluated.
        personalized: Whether that includes each client's model after local training.
        measures: Whether memory is measured.
        work: What counts operations, for all rounds of a run.
    """

    algorithm: Algorithm
    task: Task
    clients: Federation
    state: ServerState
    sent: Callable[[int], bytes]
    key: Key
    evaluates: bool
    personalized: bool
    measures: bool
    device: str
    work: Work
    eval_seconds: float = field(default=0.0, init=False)

    def __call__(self, order: Order) -> Completed:
        generalized = (
            self._evaluate(order.client, delivered(self.state, order.weights)) if self.evaluates else None
        )
        result, spent = self._train(order)
        reply, data = result.reply, encode_reply(result.reply, order)
        after = self.evaluates and self.personalized and refusal(data, order, self.algorithm) is None
        record = ClientRecord(
            client=order.client,
            units=self._units(order),
            examples=reply.examples,
            steps=reply.steps,
            loss=reply.loss,
            bytes_up=len(data) if self.algorithm.federated else 0,
            bytes_down=self.bytes_down(order.client),
            **spent,
            generalized=generalized,
            personalized=self._evaluate_own(order.client, result) if after else None,
            own=result.evaluate is not None,
        )
        return Completed(order, data, record)

    def bytes_down(self, client: int) -> int:
        return len(self.sent(client)) if self.algorithm.federated else 0

    def _train(self, order: Order) -> tuple[ClientResult, dict[str, Any]]:
        """Train, and tell what of the record it cost."""
        done: list[ClientResult] = []
        batches = self.clients.batches(order.client, order.round, self.key)
        examples = self.clients.examples(order.client)
        with self.work.steps(order, batches) as steps:

            def step() -> None:
                done.append(self.algorithm.train(self.task.loss, order, steps, examples))

            begun, busy = time.perf_counter(), time.process_time()
            peak = peak_of(step, self.device) if self.measures else step()
            spent = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - busy}
        return done[0], {
            **spent,
            "peak_bytes": peak,
            "operations": steps.operations,
            "slowed": self.measures or steps.counted,
        }

    def _units(self, order: Order) -> tuple[str, ...]:
        trained = set(order.trained)
        return tuple(unit.name for unit in self.algorithm.units if not trained.isdisjoint(unit.names))

    def _evaluate(self, client: int, weights: Params) -> Metrics:
        begun = time.perf_counter()
        metrics = self.task.evaluate(weights, self.clients.held_out(client))
        self.eval_seconds += time.perf_counter() - begun
        return sums(metrics)

    def _evaluate_own(self, client: int, result: ClientResult) -> Metrics:
        if result.evaluate is None:
            return self._evaluate(client, result.weights)
        begun = time.perf_counter()
        metrics = result.evaluate(self.task, self.clients.held_out(client))
        self.eval_seconds += time.perf_counter() - begun
        return metrics


def refusal(data: bytes, order: Order, algorithm: Algorithm) -> str | None:
    """Say what makes a reply unusable; None if it counts."""
    try:
        decode_reply(data, order, algorithm.slopes_exact)
    except WireError as error:
        return str(error)
    return None
