"""A stand-in for the loss of a task, for what does not depend on what is learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from spry.forward.loss import Loss
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.tasks.metrics import Stats
from spry.tasks.task import Batch, Task


class Bowl:
    """``L(w) = |w|^2 / 2``."""

    @property
    def mask(self) -> None:
        """Have no sequences."""

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate."""
        return reduce(torch.add, ((w * w).sum() / 2 for w in params.values()))

    def examples(self, params: Params) -> Tensor:
        """Evaluate, for a batch of one."""
        return self(params).reshape(1)

    def parts(self) -> Sequence[tuple[float, Loss]]:
        """Stay whole."""
        return [(1.0, self)]


@dataclass(frozen=True)
class StandIn:
    """A task's weights and units under a loss that costs next to nothing.

    Args:
        task: The task.
    """

    task: Task

    @property
    def units(self) -> tuple[Unit, ...]:
        """The task's."""
        return self.task.units

    def init(self) -> Params:
        """Give the task's."""
        return self.task.init()

    def loss(self, batch: Any, key: Key) -> Loss:
        """Look at no batch."""
        return Bowl()

    def evaluate(self, params: Params, batches: Iterable[Batch]) -> Stats:
        """Ask the task."""
        return self.task.evaluate(params, batches)

    def save_adapter(self, params: Params, folder: Path) -> None:
        """Ask the task."""
        self.task.save_adapter(params, folder)
