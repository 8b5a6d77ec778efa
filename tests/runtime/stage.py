"""A stage for runtimes: the small problem as a task, with clients whose batches come from it."""

from __future__ import annotations

from dataclasses import dataclass

from spry.tasks.task import Score
from tests.laws import problem


@dataclass(frozen=True)
class Count:
    """Metrics of the stage: how many examples were looked at, and their mean loss as the score."""

    examples: int
    total: float

    @property
    def loss(self):
        return self.total / self.examples

    def values(self):
        return {"cross_entropy": self.loss}

    def __add__(self, other):
        return Count(self.examples + other.examples, self.total + other.total)


class Task:
    units = problem.UNITS
    score = Score(name="cross_entropy", higher_is_better=False)
    init = staticmethod(problem.weights)
    loss = staticmethod(problem.loss_of)

    def evaluate(self, params, batches):
        losses = [float(problem.ProblemLoss(batch)(params)) for batch in batches]
        return Count(8 * len(losses), 8 * sum(losses))


@dataclass
class Clients:
    number: int = 4
    test: tuple = (problem.batch(99),)
    validation: tuple = ()

    def trainable(self):
        return list(range(self.number))

    def examples(self, client):
        return 5 + client

    def batches(self, client, round, key):
        return [problem.batch(10 * client + round)]

    def held_out(self, client):
        return [problem.batch(1000 + client)]
