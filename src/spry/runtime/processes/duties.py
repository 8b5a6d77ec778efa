"""What helpers can do: a duty holds what must be known for it, and makes the function that does one piece of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from spry.core.keys import Key
from spry.core.params import Params, tree_map
from spry.data.batches import EvaluationBatches
from spry.data.federation import Federation
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.replay.downlink import Downlink
from spry.runtime.client_runner import ClientRunner
from spry.runtime.head_sums import ClientSums
from spry.runtime.local_tuning import LocalTuning
from spry.runtime.work import Work
from spry.tasks.task import Task

DoPiece = Callable[[int], Any]
"""Does a piece of a job, by its number."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What every process of a run makes for itself from the configuration.

    Args:
        work: What counts operations, for all rounds of a run.
    """

    algorithm: Algorithm
    downlink: Downlink
    task: Task
    clients: Federation
    key: Key
    personalized: bool
    device: str
    work: Work = field(default_factory=Work)


class Duty(Protocol):
    def at(self, site: Site) -> DoPiece: ...


@dataclass(frozen=True, kw_only=True)
class RoundDuty:
    """The clients of a round, one a piece: their orders follow from the state, so that no order travels.

    Args:
        state: The server's, on the CPU, without its optimizer's, which no plan reads.
        clients: Who is asked, in this order.
        evaluates: Whether the clients' held-out parts are evaluated.
        measures: Whether memory is measured.
    """

    state: ServerState
    clients: tuple[int, ...]
    evaluates: bool
    measures: bool

    @classmethod
    def of(cls, runner: ClientRunner, clients: tuple[int, ...]) -> RoundDuty:
        state = _on("cpu", replace(runner.state, optimizer={}))
        return cls(state=state, clients=clients, evaluates=runner.evaluates, measures=runner.measures)

    def at(self, site: Site) -> DoPiece:
        state = _on(site.device, self.state)
        planned = site.algorithm.plan(state, self.clients, site.key)
        orders = {client: planned[client] for client in self.clients}
        runner = ClientRunner(
            algorithm=site.algorithm,
            task=site.task,
            clients=site.clients,
            state=state,
            sent=site.downlink.send(state, orders, site.key),
            key=site.key,
            evaluates=self.evaluates,
            personalized=site.personalized,
            measures=self.measures,
            device=site.device,
            work=site.work,
        )
        return lambda piece: runner(orders[self.clients[piece]])[1:]


@dataclass(frozen=True, kw_only=True)
class SumsDuty:
    """The sums for a head in closed form, a client a piece.

    Args:
        questions: As they travel.
    """

    questions: tuple[bytes, ...]

    def at(self, site: Site) -> DoPiece:
        sums = ClientSums(site.task, site.clients)
        return lambda piece: sums(self.questions[piece])


@dataclass(frozen=True, kw_only=True)
class EvaluationDuty:
    """A part of the server's data, a batch a piece.

    Args:
        part: ``test`` or ``validation``.
        weights: On the CPU.
    """

    part: str
    weights: Params

    def at(self, site: Site) -> DoPiece:
        batches: EvaluationBatches = getattr(site.clients, self.part)
        weights = move(self.weights, site.device)
        return lambda piece: site.task.evaluate(weights, batches.single(piece))


@dataclass(frozen=True, kw_only=True)
class TuningDuty:
    """Local tuning after the last round, a client a piece.

    Args:
        state: As in ``RoundDuty``, with the final weights.
        clients: Who holds examples out.
    """

    state: ServerState
    clients: tuple[int, ...]
    steps: int

    @classmethod
    def of(cls, tuning: LocalTuning) -> TuningDuty:
        state = _on("cpu", replace(tuning.state, optimizer={}))
        return cls(state=state, clients=tuple(tuning.holding_out()), steps=tuning.steps)

    def at(self, site: Site) -> DoPiece:
        tuning = LocalTuning(
            algorithm=site.algorithm,
            task=site.task,
            clients=site.clients,
            state=_on(site.device, self.state),
            steps=self.steps,
            key=site.key,
        )
        return lambda piece: tuning(self.clients[piece])


def move(params: Params, device: str | torch.device) -> dict[str, torch.Tensor]:
    return tree_map(lambda value: value.to(device), params)


def _on(device: str, state: ServerState) -> ServerState:
    memory = {slot: move(values, device) for slot, values in state.memory.items()}
    return replace(state, weights=move(state.weights, device), memory=memory)
