"""A stand-in for the loss of a task, for what does not depend on what is learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.estimators.loss import Loss
from spry.tasks.task import Batch, Metrics, Score, Task


class Bowl:
    """``L(w) = |w|^2 / 2``."""

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate."""
        return reduce(torch.add, ((w * w).sum() / 2 for w in params.values()))

    def microbatches(self) -> Sequence[tuple[float, Loss]]:
        """Stay whole."""
        return [(1.0, self)]


@dataclass(frozen=True)
class StandIn:
    """A task's weights and units under a loss that costs next to nothing."""

    task: Task

    @property
    def units(self) -> tuple[Unit, ...]:
        """The task's."""
        return self.task.units

    @property
    def score(self) -> Score:
        """The task's."""
        return self.task.score

    def init(self) -> Params:
        """Give the task's."""
        return self.task.init()

    def loss(self, batch: Any, key: Key, base: Params) -> Loss:
        """Look at no batch."""
        return Bowl()

    def evaluate(self, params: Params, batches: Iterable[Batch]) -> Metrics:
        """Ask the task."""
        return self.task.evaluate(params, batches)

    def save_adapter(self, params: Params, folder: Path) -> None:
        """Ask the task."""
        self.task.save_adapter(params, folder)
