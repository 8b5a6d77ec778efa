"""A client's part in a head in closed form: the sums of its features, and what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from spry.core.params import Params
from spry.data.federation import Federation
from spry.federated.closed_head.codec import Question, decode_question
from spry.federated.closed_head.fits import CLASS_HEAD, LABEL_HEAD, NUMBER_HEAD, HeadSolver, Sums
from spry.federated.closed_head.projection import projection
from spry.measure.operations import OperationCounter
from spry.runtime.work import kind_of
from spry.tasks.head_fit import HeadFit
from spry.tasks.linear_head import HasLinearHead, LinearHead
from spry.tasks.task import Task

_FITS: Mapping[HeadFit, HeadSolver[Any]] = {
    HeadFit.CLASSES: CLASS_HEAD,
    HeadFit.LABELS: LABEL_HEAD,
    HeadFit.NUMBERS: NUMBER_HEAD,
}


class Summed(NamedTuple):
    """A client's sums as they travel, or why there are none, and what they took."""

    client: int
    message: bytes
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    operations: int = 0
    failed: str | None = None


AskForSums = Callable[[Sequence[tuple[int, bytes]]], Iterator[Summed]]
"""Puts questions to clients, of which each is told with its client; answers come in the same order."""


def solver_of(head: LinearHead) -> HeadSolver[Any]:
    """Choose what is summed up for a head, by what it learns."""
    return _FITS[head.fit]


@dataclass
class ClientSums:
    """Answers questions about the head, from the examples of the clients that are here.

    Args:
        solver: What is summed up; what the head learns says it if None.
    """

    task: Task
    clients: Federation
    solver: HeadSolver[Any] | None = None
    _known: dict[Hashable, int] = field(default_factory=dict, init=False)
    _mixed: dict[tuple[object, int], Tensor | None] = field(default_factory=dict, init=False)

    def ask(self, questions: Sequence[tuple[int, bytes]]) -> Iterator[Summed]:
        """Put questions to the clients here, one after the other."""
        return (self(question) for _, question in questions)

    def __call__(self, question: bytes) -> Summed:
        """Answer a question; WireError if it is none."""
        asked, begun, busy = decode_question(question), time.perf_counter(), time.process_time()
        sums, operations = self._of_client(asked)
        return Summed(
            client=asked.client,
            message=self._solver.encode(asked.client, sums),
            seconds=time.perf_counter() - begun,
            cpu_seconds=time.process_time() - busy,
            operations=operations,
        )

    @cached_property
    def _head(self) -> LinearHead:
        return cast(HasLinearHead, self.task).linear_head()

    @property
    def _solver(self) -> HeadSolver[Any]:
        return self.solver or solver_of(self._head)

    @cached_property
    def _weights(self) -> Params:
        return self.task.init()

    def _mix(self, asked: Question) -> Tensor | None:
        place = (asked.key, asked.features)
        if place not in self._mixed:
            self._mixed[place] = projection(asked.key, self._head.features, asked.features)
        return self._mixed[place]

    def _of_client(self, asked: Question) -> tuple[Sums, int]:
        sums = self._solver.empty(self._head.classes, asked.features)
        mixed, operations = self._mix(asked), 0
        for batch in self.clients.training_once(asked.client):
            kind = kind_of(batch)
            if kind in self._known:
                sums = self._with_batch(sums, batch, mixed)
            else:
                with OperationCounter() as counter:
                    sums = self._with_batch(sums, batch, mixed)
                self._known[kind] = counter.total
            operations += self._known[kind]
        return sums, operations

    def _with_batch(self, sums: Any, batch: Mapping[str, Tensor], mixed: Tensor | None) -> Any:
        with torch.inference_mode():
            features = self._head.read(self._weights, batch).double().cpu()
            features = features if mixed is None else features @ mixed.T
            return sums.add(self._solver.of(features, batch["labels"], self._head.classes))
