"""The loop over rounds, which every runtime shares: plan, let an executor run the clients, absorb, evaluate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from spry.core.errors import TrainingError
from spry.core.keys import Key
from spry.core.params import Params
from spry.data.client_data import ClientData, Encoder
from spry.data.federation import Federation
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.ema import delivered
from spry.federated.privacy.accounting import Spending
from spry.federated.replay.downlink import Downlink, full
from spry.runtime.arrivals import Arrivals
from spry.runtime.client_runner import ClientRunner
from spry.runtime.executor import Executor, InProcess
from spry.runtime.parties import SecureAggregation
from spry.runtime.records import ClientRecord, Round
from spry.runtime.sampling import Sampler, sample, untrained
from spry.runtime.secure import SecureRound
from spry.runtime.work import Work
from spry.tasks.task import Batch, Metrics, Task
from spry.wire.messages import Order

EvaluatePart = Callable[[Params, str, Iterable[Batch]], Metrics]
"""``(weights, name, batches) -> metrics``: evaluates a part of the server's data."""


@dataclass
class _Measured:
    """What is known of costs so far, and which rounds are measured: the first, and each that asks for more directions
    than all before it.
    """

    work: Work = field(default_factory=Work)
    most_directions: int = -1
    peak_bytes: int = 0

    def measures(self, orders: Mapping[int, Order]) -> bool:
        asked = max((order.num_directions for order in orders.values()), default=0)
        grows, self.most_directions = asked > self.most_directions, max(asked, self.most_directions)
        return grows

    def take(self, records: tuple[ClientRecord, ...]) -> int:
        self.peak_bytes = max([self.peak_bytes, *(record.peak_bytes or 0 for record in records)])
        return self.peak_bytes


def simulate(
    algorithm: Algorithm,
    task: Task,
    data: Federation | ClientData,
    *,
    rounds: int,
    clients_per_round: int,
    key: Key = Key(0),
    evaluate_every: int = 1,
    personalized: bool = False,
    state: ServerState | None = None,
    downlink: Downlink | None = None,
    executor: Executor | None = None,
    evaluate: EvaluatePart | None = None,
    over_select: int = 0,
    deadline: float | None = None,
    device: str = "cpu",
    sampler: Sampler = sample,
    spending: Spending | None = None,
    secure: SecureAggregation | None = None,
) -> Iterator[Round]:
    """Run the rounds of an algorithm, yielding each as it ends.

    Args:
        algorithm: What is run.
        task: Owner of the model.
        data: The clients' data; text that is not yet tokenised is tokenised for the task.
        rounds: Rounds in all, >= 0.
        clients_per_round: M, >= 1.
        key: Where every draw of the run comes from.
        evaluate_every: Rounds between evaluations, >= 1; the last round is always evaluated.
        personalized: Whether evaluations include each client's model after local training.
        state: Where to go on from; the task's initial weights without one.
        downlink: How orders reach clients, for the ledger. All weights without one.
        executor: Who runs the clients of a round; this process, one after the other, without one.
        evaluate: Who evaluates a part of the server's data; this process, without one.
        over_select: Clients, >= 0, that are asked beyond M: a round ends with the M-th reply that counts, once each
            weight that somebody trains is in one.
        deadline: Seconds, > 0, after which a round ends with the replies that came; None waits for everybody. With
            this, or with clients to spare, weights depend on who is fast.
        device: Where the task computes. Memory is measured in the first round and in each that asks for more directions
            than those measured, and taken for the others: exactly, which on a CPU makes such rounds slower.
        sampler: Who chooses the clients of a round; as many as asked for, each alike, without one.
        spending: What rounds cost of privacy; a round that would overspend is not begun.
        secure: Hides all replies but their sums from the server, for algorithms that need no more; None shows them.

    Yields:
        Each finished round, with the server's new state.

    Raises:
        ConfigError: If a weight has too few owners for how its replies are united.
        TrainingError: If no reply of a round counts; the last yielded state is still good.
        PrivacyError: If a round would spend more privacy than there is.
    """
    clients = data.encode(cast(Encoder, task)) if isinstance(data, ClientData) else data
    state = algorithm.init(task.init()) if state is None else state
    downlink, executor, measured = downlink or full(algorithm), executor or InProcess(), _Measured()
    while state.round < rounds:
        number, begun = state.round, time.perf_counter()
        if spending is not None:
            spending.check(number + 1)
        chosen = sampler(clients.trainable(), clients_per_round + over_select, number, key)
        planned = algorithm.plan(state, chosen, key)
        orders = {client: planned[client] for client in chosen}
        algorithm.aggregation.check(orders.values())
        runner = ClientRunner(
            algorithm=algorithm,
            task=task,
            clients=clients,
            state=state,
            sent=downlink.send(state, orders, key),
            key=key,
            evaluates=(number + 1) % evaluate_every == 0 or number + 1 == rounds,
            personalized=personalized,
            measures=measured.measures(orders),
            device=device,
            work=measured.work,
        )
        arrivals: Arrivals | SecureRound = Arrivals(
            orders=orders,
            slopes_exact=algorithm.slopes_exact,
            bytes_down=runner.bytes_down,
            wanted=len(orders) - over_select,
            deadline=deadline,
        )
        if secure is not None:
            arrivals = SecureRound(arrivals=arrivals, algorithm=algorithm, settings=secure)
        state = downlink.absorb(state, orders, key, arrivals.answers(executor, runner))
        records = arrivals.records() if algorithm.tells_loss else _silent(arrivals.records())
        _check(number, records)
        seconds = time.perf_counter() - begun - runner.eval_seconds
        parts = evaluate_parts(task, delivered(state), clients, evaluate) if runner.evaluates else {}
        yield Round(
            number=number,
            state=state,
            clients=records,
            untrained_units=untrained(algorithm.units, _trained(records)),
            seconds=seconds,
            peak_bytes=measured.take(records),
            score_name=task.score.name,
            test=parts.get("test"),
            validation=parts.get("validation"),
            epsilon=spending and spending.epsilon(number + 1),
        )


def evaluate_parts(
    task: Task, weights: Params, clients: Federation, evaluate: EvaluatePart | None = None
) -> dict[str, Metrics]:
    """Evaluate a global model on those of the server's parts that there are: ``test`` and ``validation``."""
    parts = {"test": clients.test, "validation": clients.validation}
    if evaluate is None:
        found = {name: task.evaluate(weights, part) for name, part in parts.items()}
    else:
        found = {name: evaluate(weights, name, part) for name, part in parts.items()}
    return {name: metrics for name, metrics in found.items() if metrics.examples}


def _silent(records: tuple[ClientRecord, ...]) -> tuple[ClientRecord, ...]:
    """Take the losses away that clients have not told."""
    return tuple(replace(record, loss=math.nan) for record in records)


def _trained(records: tuple[ClientRecord, ...]) -> set[str]:
    """The units that replies that count have trained."""
    return {name for record in records if record.failed is None for name in record.units}


_BROKE_DOWN = (
    "Lower the client's learning rate or clip gradients (client.clip), or set model.dtype=bfloat16 in place of "
    "float16, and start a new run; the last checkpoint is from before."
)
_SILENT = (
    "Look why clients do not answer, or give them longer (runtime.deadline), then resume the run: it goes on from its "
    "last checkpoint."
)


def _check(number: int, records: tuple[ClientRecord, ...]) -> None:
    if records and all(record.failed for record in records):
        reasons = "; ".join(f"client {record.client}: {record.failed}" for record in records)
        advice = _BROKE_DOWN if any(record.steps for record in records) else _SILENT
        raise TrainingError(f"round {number}: no client's reply could be used ({reasons}). {advice}")
