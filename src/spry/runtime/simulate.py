"""The default runtime: all clients in this process, one after the other, over one shared backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from spry.core.errors import TrainingError
from spry.core.keys import Key
from spry.core.params import Params
from spry.data.federation import Federation
from spry.federated.algorithm import Algorithm, ServerState, Trained
from spry.federated.average import delivered
from spry.federated.downlink import Downlink, full
from spry.measure.meter import peak_of
from spry.metrics.stats import Stats
from spry.runtime.records import ClientRecord, Round
from spry.runtime.rounds import defect, idle, load, sample
from spry.tasks.task import Task
from spry.wire.codec import encode_reply
from spry.wire.messages import Answer, Order


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long to run and when to look.

    Args:
        rounds: Rounds in all, >= 0.
        clients_per_round: M, >= 1.
        evaluate_every: Rounds between evaluations, >= 1; the last round is always evaluated.
        personalized: Whether evaluations include each client's model after local training.
    """

    rounds: int
    clients_per_round: int
    evaluate_every: int = 1
    personalized: bool = True

    def evaluates(self, number: int) -> bool:
        """Tell whether a round is evaluated."""
        return (number + 1) % self.evaluate_every == 0 or number + 1 == self.rounds


@dataclass
class _Run:
    """One round under way: trains clients as the server takes their replies, and notes what happened."""

    algorithm: Algorithm
    task: Task
    clients: Federation
    state: ServerState
    sent: Callable[[int], bytes]
    key: Key
    device: str
    evaluates: bool
    personalized: bool
    measures: bool
    records: list[ClientRecord] = field(default_factory=list)
    aside: float = 0.0

    def answers(self, orders: Iterable[Order]) -> Iterator[Answer]:
        for order in orders:
            shown = delivered(self.state, order.weights)
            generalized = self._look(order.client, shown) if self.evaluates else None
            examples = self.clients.examples(order.client)
            trained, seconds, peak = self._train(order, examples)
            failed = defect(trained.reply)
            look = self.evaluates and self.personalized and failed is None
            personalized = self._look(order.client, trained.weights) if look else None
            self.records.append(
                ClientRecord(
                    client=order.client,
                    units=self._units(order),
                    examples=examples,
                    steps=trained.reply.steps,
                    loss=trained.reply.loss,
                    bytes_up=len(encode_reply(trained.reply, order)) if self.algorithm.federated else 0,
                    bytes_down=len(self.sent(order.client)) if self.algorithm.federated else 0,
                    seconds=seconds,
                    peak_bytes=peak,
                    failed=failed,
                    generalized=generalized,
                    personalized=personalized,
                )
            )
            if failed is None:
                yield Answer(order, trained.reply)

    def _train(self, order: Order, examples: int) -> tuple[Trained, float, int | None]:
        done: list[Trained] = []

        def step() -> None:
            batches = self.clients.batches(order.client, order.round, self.key)
            done.append(self.algorithm.train(self.task.loss, order, batches, examples))

        begun = time.perf_counter()
        peak = peak_of(step, self.device) if self.measures else step()
        return done[0], time.perf_counter() - begun, peak

    def _units(self, order: Order) -> tuple[str, ...]:
        trained = set(order.trained)
        return tuple(unit.name for unit in self.algorithm.units if not trained.isdisjoint(unit.names))

    def _look(self, client: int, weights: Params) -> Stats:
        begun = time.perf_counter()
        stats = self.task.evaluate(weights, self.clients.held_out(client))
        self.aside += time.perf_counter() - begun
        return stats


def simulate(
    algorithm: Algorithm,
    task: Task,
    clients: Federation,
    *,
    key: Key,
    schedule: Schedule,
    state: ServerState | None = None,
    downlink: Downlink | None = None,
    device: str = "cpu",
) -> Iterator[Round]:
    """Run the rounds of an algorithm, yielding each as it ends.

    Args:
        algorithm: What is run.
        task: Owner of the model.
        clients: Owner of the data.
        key: Where every draw of the run comes from.
        schedule: How long to run and when to look.
        state: Where to go on from; the task's initial weights without one.
        downlink: How orders reach clients, for the ledger: all virtual clients share what they would be sent. All
            weights without one.
        device: Where the task computes. Memory is measured in the first round that is run and in each that asks for
            more than those measured (``rounds.load``), and taken for the others: exactly, which on a CPU makes such
            rounds slower.

    Yields:
        Each finished round, with the server's new state.

    Raises:
        TrainingError: If no reply of a round counts; the last yielded state is still good.
    """
    state = algorithm.init(task.init()) if state is None else state
    downlink = downlink or full(algorithm)
    peak_bytes, heaviest = 0, [-1, -1, -1]
    while state.round < schedule.rounds:
        number, begun = state.round, time.perf_counter()
        chosen = sample(clients.trainable(), schedule.clients_per_round, number, key)
        planned = algorithm.plan(state, chosen, key)
        orders = {client: planned[client] for client in chosen}
        heavy = load(orders.values(), clients.batch_size.at(number))
        measures = any(now > before for now, before in zip(heavy, heaviest, strict=True))
        run = _Run(
            algorithm=algorithm,
            task=task,
            clients=clients,
            state=state,
            sent=downlink.send(state, orders, key),
            key=key,
            device=device,
            evaluates=schedule.evaluates(number),
            personalized=schedule.personalized,
            measures=measures,
        )
        state = downlink.absorb(state, orders, key, run.answers(orders.values()))
        survivors = [record for record in run.records if record.failed is None]
        if not survivors:
            reasons = "; ".join(f"client {record.client}: {record.failed}" for record in run.records)
            raise TrainingError(
                f"round {number}: no client's reply could be used ({reasons}). Lower the client's learning rate "
                f"or clip gradients, then resume from the last checkpoint."
            )
        seconds = time.perf_counter() - begun - run.aside
        if measures:
            heaviest = [max(pair) for pair in zip(heavy, heaviest, strict=True)]
            peak_bytes = max(peak_bytes, *(record.peak_bytes or 0 for record in run.records))
        yield Round(
            number=number,
            state=state,
            clients=tuple(run.records),
            idle_units=idle(algorithm.units, {name for record in survivors for name in record.units}),
            seconds=seconds,
            peak_bytes=peak_bytes,
            test=task.evaluate(delivered(state), clients.test) if run.evaluates else None,
        )
