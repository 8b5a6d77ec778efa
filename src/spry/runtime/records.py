"""What a runtime reports of a round: one record a client, one a round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spry.core.params import Params
from spry.federated.algorithm import ServerState
from spry.federated.ema import delivered
from spry.tasks.task import Metrics


@dataclass(frozen=True, kw_only=True)
class ClientRecord:
    """What one client did in one round.

    Args:
        examples: How many training examples it owns.
        loss: Mean loss over its steps.
        seconds: Time of local training, evaluation left out.
        cpu_seconds: Processor time of the same, all threads of the process together: where several clients train in one
            process at once, it is of all of them.
        operations: Floating-point operations of local training, see ``measure.operations``; None if not counted.
        slowed: Whether measuring memory or counting operations slowed it.
        peak_bytes: Highest memory of local training above what was in use when it began; None if not measured.
        failed: Why its reply was dropped, or None.
        ignored: What else came from it: replies of earlier rounds, or the same once more.
        generalized: The global model on its held-out part, before local training; None if not evaluated.
        personalized: The same after local training.
        own: Whether the method itself evaluated the client's model, whose details the log then has.
    """

    client: int
    units: tuple[str, ...]
    examples: int
    steps: int
    loss: float
    bytes_up: int
    bytes_down: int
    seconds: float
    cpu_seconds: float = 0.0
    operations: int | None = None
    slowed: bool = False
    peak_bytes: int | None = None
    failed: str | None = None
    ignored: int = 0
    generalized: Metrics | None = None
    personalized: Metrics | None = None
    own: bool = False


def failed_record(client: int, reason: str, *, bytes_down: int) -> ClientRecord:
    """Make the record of a client from which nothing came."""
    return ClientRecord(
        client=client,
        units=(),
        examples=0,
        steps=0,
        loss=math.nan,
        bytes_up=0,
        bytes_down=bytes_down,
        seconds=0.0,
        failed=reason,
    )


@dataclass(frozen=True, kw_only=True)
class HeadCost:
    """What a head in closed form took before round 1, over all clients.

    Args:
        examples: How many were summed up.
        clients: How many clients sent sums that count.
        left_out: Clients whose sums do not count, and why.
        features: How many features were summed, of as many as the head reads or of random combinations.
        seconds: Time of the clients, one after the other.
        cpu_seconds: Processor time of the same.
        operations: Floating-point operations of the same, see ``measure.operations``.
    """

    examples: int
    clients: int
    left_out: Mapping[int, str]
    features: int
    bytes_up: int
    bytes_down: int
    seconds: float
    cpu_seconds: float
    operations: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """One finished round.

    Args:
        number: The round, from 0.
        state: The server's state after it.
        clients: One record a client, in the order in which they were asked.
        untrained_units: Units that no surviving reply trained; they kept their value and optimizer state.
        seconds: Time of the round, evaluation left out.
        peak_bytes: The highest of the clients' peaks in the rounds measured so far: memory above model and data.
        score_name: What the task is judged by.
        test: The new global model on the test part; None if not evaluated, or without one.
        validation: The same on the validation part.
        start: In round 0 the model before it, by part, such as ``test``; nothing if not evaluated.
        head: In round 0 what a head in closed form took before it; None without one.
        epsilon: Privacy spent by this round and all before it; infinite without noise, None without an accountant.
    """

    number: int
    state: ServerState
    clients: tuple[ClientRecord, ...]
    untrained_units: tuple[str, ...]
    seconds: float
    peak_bytes: int
    score_name: str
    test: Metrics | None = None
    validation: Metrics | None = None
    start: Mapping[str, Metrics] = field(default_factory=dict)
    head: HeadCost | None = None
    epsilon: float | None = None

    @property
    def weights(self) -> Params:
        """The weights to evaluate and keep."""
        return delivered(self.state)

    @property
    def score(self) -> float | None:
        """The task's score on the test part; None if not evaluated."""
        return self.test.values()[self.score_name] if self.test is not None else None

    @property
    def scores(self) -> dict[str, float]:
        """The task's score on each part on which the round was evaluated, by the part's name."""
        known = {
            "test": self.test, "validation": self.validation, "generalized": self.generalized,
            "personalized": self.personalized,
        }  # fmt: skip
        return self._scores({part: found for part, found in known.items() if found is not None})

    @property
    def start_scores(self) -> dict[str, float]:
        """In round 0 the same of the model before it."""
        return self._scores(self.start)

    def _scores(self, known: Mapping[str, Metrics]) -> dict[str, float]:
        values = {part: found.values()[self.score_name] for part, found in known.items()}
        return {part: value for part, value in values.items() if value is not None}

    @property
    def survivors(self) -> tuple[ClientRecord, ...]:
        """The clients whose replies counted."""
        return tuple(record for record in self.clients if record.failed is None)

    @property
    def loss(self) -> float:
        """Mean training loss of the survivors, weighted by examples; NaN where none tells it."""
        total = sum(record.examples for record in self.survivors)
        return sum(record.loss * record.examples for record in self.survivors) / total if total else math.nan

    @property
    def generalized(self) -> Metrics | None:
        """The global model on all sampled clients' held-out parts, weighted by size."""
        return _sum(record.generalized for record in self.clients)

    @property
    def personalized(self) -> Metrics | None:
        """The locally trained models, each on its own client's held-out part, weighted by size."""
        return _sum(record.personalized for record in self.clients)


def _sum(parts: Iterable[Metrics | None]) -> Metrics | None:
    known = [metrics for metrics in parts if metrics is not None]
    return sum(known[1:], start=known[0]) if known else None
